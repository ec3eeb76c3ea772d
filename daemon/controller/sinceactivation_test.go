package controller

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/pairingtest"
)

// TestSinceActivation has the first round back start from the snapshot of the standby
// that is of the image which the volume was activated with.
func TestSinceActivation(t *testing.T) {
	t.Parallel()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), api.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}}
	volume.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: "v"}
	standby := &api.Standby{ObjectMeta: metav1.ObjectMeta{Namespace: "home", Name: "cms-cms"}}
	standby.Spec = api.StandbySpec{PairID: "in", Application: "cms/cms", Activation: &api.StandbyActivation{}}
	standby.Status.Volumes = []api.StandbyVolume{{Namespace: "cms", Name: "data", Image: "i"}}
	standby.Status.Snapshots = []api.StandbySnapshot{{Round: "r", Ready: true, Volumes: []api.SnapshotOfClaim{
		{Namespace: "cms", Name: "data", Image: "i", Handle: "s", VolumeHandle: "v"},
	}}}
	peers := &pairingtest.Peers{}
	out := pairing.Peer{PairID: "out", Direction: pairing.Outgoing, ClusterID: "east", Twin: "in"}
	for _, p := range []pairing.Peer{out, {PairID: "in", Direction: pairing.Incoming, ClusterID: "east", Twin: "out"}} {
		if _, err := peers.Put(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	of := func(s *api.Standby, method api.TransferMethod) api.VolumeTransferSpec {
		t.Helper()
		c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(volume.DeepCopy(), s.DeepCopy()).Build()
		x := &run{Migrations: &Migrations{Client: c, Live: c, Peers: peers, Namespace: "home"}, m: &api.Migration{}, peer: out}
		x.m.Status.Application = "cms/cms"
		var spec api.VolumeTransferSpec
		v := &api.MigrationVolumeInfo{Namespace: "cms", PersistentVolumeClaim: "data", Volume: "pv", Method: method}
		if err := x.sinceActivation(t.Context(), v, &spec); err != nil {
			t.Fatal(err)
		}
		return spec
	}
	if got := of(standby, api.MethodBlock); got.From != "i" || got.Base == nil || *got.Base != (api.TransferBase{Image: "i", SnapshotHandle: "s", Cluster: "east"}) {
		t.Errorf("by blocks: %+v", got)
	}
	if got := of(standby, api.MethodFilesystem); got.From != "i" || got.Base != nil || got.NoBase != "" {
		t.Errorf("by files: %+v", got)
	}
	remade := standby.DeepCopy()
	remade.Status.Snapshots[0].Volumes[0].VolumeHandle = "another"
	if got := of(remade, api.MethodBlock); got.From != "i" || got.Base != nil || !strings.Contains(got.NoBase, "another volume") {
		t.Errorf("of another volume: %+v", got)
	}
	remade.Spec.Activation = nil
	if got := of(remade, api.MethodBlock); got.From != "" || got.Base != nil || got.NoBase != "" {
		t.Errorf("not activated: %+v", got)
	}
}
