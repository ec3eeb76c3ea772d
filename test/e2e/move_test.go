package e2e

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestMove hands a volume to the target that both clusters reach, without a copy, and
// gives it back: what was written on either side is there.
func TestMove(t *testing.T) {
	g, ctx := besideOthers(t)
	app := scenario.OnFiler("handed", 8)
	must(t, g.StartPaired(ctx, app, "west"))
	t.Cleanup(func() { afterMove(context.WithoutCancel(ctx), t, g) })
	pairAsAdmin(ctx, t, g, "handed-admin")
	eras := &eras{t: t, app: app}
	eras.write(ctx, g.Source, "first")
	sum := sumOf(ctx, t, g.Source, app)
	before := theVolume(ctx, t, g.Source, app.Namespace)

	must(t, g.Source.Apply(ctx, []byte(migration(app.Namespace, "move", "west", app.Namespace)+
		"  quiesce: true\n  adminClusterPair: handed-admin\n  volumes: [{storageClass: csi-filer, action: Move}]\n")))
	m, err := g.AwaitSuccess(ctx, app.Namespace, "move", scenario.Long)
	must(t, err)
	must(t, g.AwaitRunning(ctx, g.Target, app))
	if v := m.Status.Volumes[0]; v.Action != api.VolumeMove || v.BytesUploaded+v.BytesWritten+v.BytesRead != 0 {
		t.Errorf("bytes went through: %+v", v)
	}
	t.Logf("moved without a copy, downtime %v", m.Status.Downtime)
	there := theVolume(ctx, t, g.Target, app.Namespace)
	if there.Spec.CSI.VolumeHandle != before.Spec.CSI.VolumeHandle || there.Spec.CSI.Driver != before.Spec.CSI.Driver {
		t.Errorf("the target has volume %+v, want the source's %+v", there.Spec.CSI, before.Spec.CSI)
	}
	for _, pv := range []corev1.PersistentVolume{there, theVolume(ctx, t, g.Source, app.Namespace)} {
		if pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain {
			t.Errorf("volume %s is not retained: deleted on one side it would be gone on both", pv.Name)
		}
	}
	eras.are(ctx, g.Target, "first")
	if got := sumOf(ctx, t, g.Target, app); got != sum {
		t.Errorf("on the target the data is %s, want %s", got, sum)
	}
	eras.write(ctx, g.Target, "second")

	said, err := g.Godwitctl(ctx, g.Source, "rollback", "migration", "move", "-n", app.Namespace)
	t.Log(said)
	must(t, err)
	must(t, g.AwaitRunning(ctx, g.Source, app))
	eras.are(ctx, g.Source, "first second")
	tookBack(ctx, t, g, app.Namespace, "move")
	if pv := theVolume(ctx, t, g.Source, app.Namespace); pv.Name != before.Name || pv.Spec.PersistentVolumeReclaimPolicy != before.Spec.PersistentVolumeReclaimPolicy {
		t.Errorf("the source's volume is %s with policy %s, was %s with %s", pv.Name, pv.Spec.PersistentVolumeReclaimPolicy, before.Name, before.Spec.PersistentVolumeReclaimPolicy)
	}
	must(t, g.DeleteMigration(ctx, app.Namespace, "move"))
	must(t, g.AwaitNothingLeftOf(ctx, app.Namespace, scenario.Soon))
}

// pairAsAdmin makes an admin pair of the clusters.
func pairAsAdmin(ctx context.Context, t *testing.T, g *scenario.Ground, name string) {
	t.Helper()
	for _, c := range []scenario.Cluster{g.Source, g.Target} {
		must(t, g.EnsureLocation(ctx, c, scenario.Namespace, g.Store))
	}
	printed, err := g.Godwitctl(ctx, g.Target, "-n", scenario.Namespace, "generate", "clusterpair", name, "--admin")
	must(t, err)
	must(t, g.Source.Apply(ctx, []byte(printed)))
	must(t, g.AwaitPair(ctx, scenario.Namespace, name, scenario.Soon))
}

func sumOf(ctx context.Context, t *testing.T, c scenario.Cluster, app scenario.App) string {
	t.Helper()
	out, err := c.Script(ctx, app.Namespace, "deployment/vault", "sha256sum < /data/random")
	must(t, err)
	return strings.TrimSpace(string(out))
}

// theVolume is the one that the application's claim is bound to.
func theVolume(ctx context.Context, t *testing.T, c scenario.Cluster, namespace string) corev1.PersistentVolume {
	t.Helper()
	claim, err := scenario.Get[corev1.PersistentVolumeClaim](ctx, c, "-n", namespace, "persistentvolumeclaims", "data")
	must(t, err)
	pv, err := scenario.Get[corev1.PersistentVolume](ctx, c, "persistentvolumes", claim.Spec.VolumeName)
	must(t, err)
	if pv.Spec.CSI == nil {
		t.Fatalf("volume %s of claim %s/data is not of a CSI driver", pv.Name, namespace)
	}
	return pv
}

func afterMove(ctx context.Context, t *testing.T, g *scenario.Ground) {
	ctx, cancel := context.WithTimeout(ctx, scenario.Long)
	defer cancel()
	_, err := g.Source.Kubectl(ctx, "-n", scenario.Namespace, "delete", "clusterpairs.godwit.io", "handed-admin", "--ignore-not-found", "--timeout", "60s")
	must(t, err)
}
