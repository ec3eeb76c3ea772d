package target

import (
	"testing"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload"
)

// TestListed tells of every failure, whatever else there is no room for.
func TestListed(t *testing.T) {
	var infos []api.MigrationResourceInfo
	for i := range 10_000 {
		info := infoOf(workload.Ref{Kind: "ConfigMap"}, nil)
		if i%1000 == 999 {
			info.Status = api.MigrationStatusFailed
		}
		infos = append(infos, info)
	}
	failed := 0
	got := listed(infos)
	for _, info := range got {
		if info.Status == api.MigrationStatusFailed {
			failed++
		}
	}
	if len(got) != mostListed || failed != 10 || len(infos) != 10_000 {
		t.Errorf("%d listed, %d failures", len(got), failed)
	}
	if few := listed(infos[:5]); len(few) != 5 {
		t.Errorf("of five, %d are listed", len(few))
	}
}
