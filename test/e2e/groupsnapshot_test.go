package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/snapshot/csi"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestGroupSnapshots takes three claims on a storage that has groups at one
// moment, and takes all of it away again.
func TestGroupSnapshots(t *testing.T) {
	g, ctx := besideOthers(t)
	config, err := clientcmd.BuildConfigFromFlags("", g.Source.Kubeconfig)
	must(t, err)
	scheme := runtime.NewScheme()
	must(t, clientgoscheme.AddToScheme(scheme))
	must(t, snapshotv1.AddToScheme(scheme))
	c, err := client.New(config, client.Options{Scheme: scheme})
	must(t, err)
	snapshots := csi.New(c, c, csi.Config{Namespace: scenario.Namespace, HolderImage: "unused"})
	const namespace = "together"
	must(t, g.Source.EnsureNamespace(ctx, namespace))
	owner := csi.Owner{UID: "e2e-together", Name: "e2e/together"}
	var requests []csi.SnapshotRequest
	for _, name := range []string{"a", "b", "c"} {
		must(t, g.Source.Apply(ctx, []byte(fmt.Sprintf(`apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: %s, namespace: %s}
spec: {accessModes: [ReadWriteOnce], storageClassName: csi-block, resources: {requests: {storage: 16Mi}}}
`, name, namespace))))
		requests = append(requests, csi.SnapshotRequest{Owner: owner, Name: "alone-" + name, Namespace: namespace, Claim: name, Class: "csi-block"})
	}
	_, err = g.Source.Kubectl(ctx, "-n", namespace, "wait", "pvc", "--all", "--for", "jsonpath={.status.phase}=Bound", "--timeout", "60s")
	must(t, err)
	var members []csi.Member
	must(t, scenario.Await(ctx, scenario.Soon, "the group to be ready", func(ctx context.Context) (bool, string, error) {
		var err error
		members, err = snapshots.EnsureTogether(ctx, requests)
		ready := err == nil
		for _, m := range members {
			ready = ready && m.Ready
		}
		return ready, fmt.Sprintf("%+v", members), err
	}))
	for i, m := range members {
		if m.Group == "" || m.Handle == "" || !m.Taken.Equal(members[0].Taken) || strings.HasPrefix(m.Snapshot, "alone-") {
			t.Errorf("claim %s: %+v", requests[i].Claim, m)
		}
	}
	labels, err := g.Source.Kubectl(ctx, "-n", namespace, "get", "pvc", "-l", "godwit.io/group-snapshot", "-o", "name")
	if err != nil || labels != "" {
		t.Errorf("the label of the group is still on %q (%v)", labels, err)
	}
	must(t, scenario.Await(ctx, scenario.Soon, "the group to be gone", func(ctx context.Context) (bool, string, error) {
		done, err := snapshots.ReleaseGroups(ctx, owner)
		return done, "", err
	}))
	must(t, scenario.Await(ctx, scenario.Soon, "nothing to be left of the group", func(ctx context.Context) (bool, string, error) {
		// Contents are of no namespace, and tell whose they are.
		out, err := g.Source.Kubectl(ctx, "get", "vgs,vgsc,vs,vsc", "-A", "--no-headers", "-o",
			"custom-columns=KIND:.kind,NAME:.metadata.name,OF:.metadata.namespace,GROUP:.spec.volumeGroupSnapshotRef.namespace,ONE:.spec.volumeSnapshotRef.namespace")
		return !strings.Contains(out, " "+namespace), out, err
	}))
	_, err = g.Source.Kubectl(ctx, "delete", "namespace", namespace, "--timeout", "60s")
	must(t, err)
}
