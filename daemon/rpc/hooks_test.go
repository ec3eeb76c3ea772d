package rpc

import (
	"testing"

	"github.com/godwit-io/godwit/daemon/migrate"
)

// TestOlderTargetsFindNoJob holds that a hook with a user is nowhere where a target
// that knows none would read it.
func TestOlderTargetsFindNoJob(t *testing.T) {
	t.Parallel()
	r := hookRequest(migrate.Hook{Name: "warm", User: &migrate.HookUser{}})
	if r.GetJob() != nil || r.GetJobWithUser().GetName() != "warm" {
		t.Errorf("with a user: %v", r)
	}
	r = hookRequest(migrate.Hook{Name: "warm"})
	if r.GetJob().GetName() != "warm" || r.GetJobWithUser() != nil {
		t.Errorf("without one: %v", r)
	}
}
