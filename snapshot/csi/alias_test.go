package csi_test

import (
	"testing"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/godwit-io/godwit/snapshot/csi"
)

func TestAliasIsWhatTheExposureMade(t *testing.T) {
	k := newCluster(t, interceptor.Funcs{}, claim("data", nil), volume("data"), storageClass(), snapshotClass("class", driver, true))
	r, _ := exposed(t, k, csi.Block)
	k.get(home, r.Alias(), &snapshotv1.VolumeSnapshot{})
	r.Snapshot = ""
	if name := r.Alias(); name != "" {
		t.Errorf("a live volume has the alias %q", name)
	}
}
