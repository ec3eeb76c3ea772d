package csi_test

import (
	"strings"
	"testing"

	groupv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumegroupsnapshot/v1"
	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/godwit-io/godwit/snapshot/csi"
)

const groupLabel = "godwit.io/group-snapshot"

func groupClass(name, driver string, isDefault bool) *groupv1.VolumeGroupSnapshotClass {
	c := &groupv1.VolumeGroupSnapshotClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Driver: driver, DeletionPolicy: snapshotv1.VolumeSnapshotContentRetain}
	if isDefault {
		c.Annotations = map[string]string{"groupsnapshot.storage.kubernetes.io/is-default-class": "true"}
	}
	return c
}

func together(claims ...string) []csi.SnapshotRequest {
	var all []csi.SnapshotRequest
	for _, c := range claims {
		all = append(all, csi.SnapshotRequest{Owner: owner, Name: "round-1-" + c, Namespace: "cms", Claim: c, Class: "snap"})
	}
	return all
}

// takeGroup plays the snapshot-controller for the one VolumeGroupSnapshot.
func (c *cluster) takeGroup() *groupv1.VolumeGroupSnapshot {
	c.t.Helper()
	var groups groupv1.VolumeGroupSnapshotList
	if n := c.count(&groups, client.InNamespace("cms")); n != 1 {
		c.t.Fatalf("%d group snapshots, want 1", n)
	}
	g := &groups.Items[0]
	var claims corev1.PersistentVolumeClaimList
	c.must(c.List(c.t.Context(), &claims, client.InNamespace("cms"), client.MatchingLabels(g.Spec.Source.Selector.MatchLabels)))
	for _, pvc := range claims.Items {
		vs := &snapshotv1.VolumeSnapshot{
			ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "snapshot-of-" + pvc.Name},
			Spec:       snapshotv1.VolumeSnapshotSpec{Source: snapshotv1.VolumeSnapshotSource{PersistentVolumeClaimName: &pvc.Name}},
		}
		c.must(c.Create(c.t.Context(), vs))
		c.ready("cms", vs.Name)
		c.get("cms", vs.Name, vs)
		vs.Status.VolumeGroupSnapshotName = &g.Name
		c.must(c.Status().Update(c.t.Context(), vs))
	}
	content := &groupv1.VolumeGroupSnapshotContent{
		ObjectMeta: metav1.ObjectMeta{Name: "groupcontent"}, Spec: groupv1.VolumeGroupSnapshotContentSpec{DeletionPolicy: snapshotv1.VolumeSnapshotContentRetain, Driver: driver},
	}
	c.must(c.Create(c.t.Context(), content))
	yes := true
	g.Status = &groupv1.VolumeGroupSnapshotStatus{ReadyToUse: &yes, BoundVolumeGroupSnapshotContentName: &content.Name}
	c.must(c.Status().Update(c.t.Context(), g))
	return g
}

func (c *cluster) labelled() int {
	return c.count(&corev1.PersistentVolumeClaimList{}, client.InNamespace("cms"), client.HasLabels{groupLabel})
}

func TestClaimsAreTakenTogether(t *testing.T) {
	other := volume("files", corev1.ReadWriteMany)
	other.Spec.CSI.Driver = "files.example.com"
	k := newCluster(t, interceptor.Funcs{}, claim("a", nil), claim("b", nil), claim("bystander", nil), claim("files", nil),
		volume("a"), volume("b"), volume("bystander"), other, groupClass("x", driver, false), groupClass("y", driver, true))
	s := k.snapshots()
	requests := together("a", "files", "b")
	for range 2 {
		members, err := s.EnsureTogether(t.Context(), requests)
		if err != nil || members[0].Group == "" || members[0].Ready || members[1].Group != "" || members[2].Group == "" {
			t.Fatalf("%+v, %v", members, err)
		}
		if want := "no VolumeGroupSnapshotClass names driver files.example.com"; members[1].Reason != want || members[1].Snapshot != "round-1-files" {
			t.Fatalf("%+v, want reason %q", members[1], want)
		}
		if n := k.labelled(); n != 2 {
			t.Fatalf("%d claims carry the label, want the two that are taken", n)
		}
	}
	g := k.takeGroup()
	if class := g.Spec.VolumeGroupSnapshotClassName; class == nil || *class != "y" {
		t.Errorf("class %v, want the default", class)
	}
	members, err := s.EnsureTogether(t.Context(), requests)
	if err != nil || !members[0].Ready || members[0].Snapshot != "snapshot-of-a" || members[0].Handle != "snap-1" || !members[2].Ready || members[2].Snapshot != "snapshot-of-b" {
		t.Fatalf("%+v, %v", members, err)
	}
	if n := k.labelled(); n != 0 {
		t.Errorf("%d claims still carry the label, and would take it to the target", n)
	}
	for _, want := range []bool{false, true} {
		if done, err := s.ReleaseGroups(t.Context(), owner); err != nil || done != want {
			t.Errorf("release: %t, %v, want %t", done, err, want)
		}
	}
	var content groupv1.VolumeGroupSnapshotContent
	k.get("", "groupcontent", &content)
	if content.Spec.DeletionPolicy != snapshotv1.VolumeSnapshotContentDelete {
		t.Error("the group stays in the storage, which Godwit asked for it")
	}
}

func TestOneClaimIsNoGroup(t *testing.T) {
	for name, c := range map[string]struct {
		claims []string
		class  bool
		want   string
	}{
		"alone":    {[]string{"a"}, true, "no other claim of namespace cms is on driver disk.example.com"},
		"no class": {[]string{"a", "b"}, false, "no VolumeGroupSnapshotClass names driver disk.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			objs := []client.Object{claim("a", nil), claim("b", nil), volume("a"), volume("b")}
			if c.class {
				objs = append(objs, groupClass("x", driver, true))
			}
			k := newCluster(t, interceptor.Funcs{}, objs...)
			members, err := k.snapshots().EnsureTogether(t.Context(), together(c.claims...))
			k.must(err)
			for i, m := range members {
				if m.Group != "" || m.Reason != c.want || m.Snapshot != "round-1-"+c.claims[i] {
					t.Errorf("%+v", m)
				}
			}
			if n := k.count(&snapshotv1.VolumeSnapshotList{}, client.InNamespace("cms")); n != len(c.claims) || k.labelled() != 0 {
				t.Errorf("%d snapshots, %d labels", n, k.labelled())
			}
		})
	}
}

func TestAnothersGroupIsRefused(t *testing.T) {
	k := newCluster(t, interceptor.Funcs{}, claim("a", nil), claim("b", nil), volume("a"), volume("b"), groupClass("x", driver, true))
	s := k.snapshots()
	_, err := s.EnsureTogether(t.Context(), together("a", "b"))
	k.must(err)
	var groups groupv1.VolumeGroupSnapshotList
	k.must(k.List(t.Context(), &groups))
	groups.Items[0].Labels[csi.LabelOwner] = "another"
	k.must(k.Update(t.Context(), &groups.Items[0]))
	if _, err := s.EnsureTogether(t.Context(), together("a", "b")); !csi.IsFinal(err) || !strings.Contains(err.Error(), "was not made for cms/move: delete it") {
		t.Errorf("error %v", err)
	}
	if done, err := s.ReleaseGroups(t.Context(), owner); !done || err != nil {
		t.Errorf("release: %t, %v: it is another's", done, err)
	}
}

// TestAGroupIsKeptAsAWhole gives a group to another owner by one of its members:
// the release of the first owner leaves all of it.
func TestAGroupIsKeptAsAWhole(t *testing.T) {
	k := newCluster(t, interceptor.Funcs{}, claim("a", nil), claim("b", nil), volume("a"), volume("b"), groupClass("x", driver, true))
	s := k.snapshots()
	requests := together("a", "b")
	_, err := s.EnsureTogether(t.Context(), requests)
	k.must(err)
	k.takeGroup()
	members, err := s.EnsureTogether(t.Context(), requests)
	k.must(err)
	book := csi.Owner{UID: "b00k", Name: "cms/cms"}
	for _, m := range members {
		k.must(s.Adopt(t.Context(), csi.Kept{Namespace: "cms", Snapshot: m.Snapshot, Group: m.Group}, owner, book))
	}
	if done, err := s.Release(t.Context(), owner); err != nil || !done {
		t.Errorf("release by who had it: %t, %v", done, err)
	}
	groups := func() int { return k.count(&groupv1.VolumeGroupSnapshotList{}, client.InNamespace("cms")) }
	if groups() != 1 {
		t.Fatal("the group went with who had it before")
	}
	if done, err := s.Release(t.Context(), book); err != nil || done || groups() != 0 {
		t.Errorf("release by who has it: %t, %v, %d groups", done, err, groups())
	}
}

// TestAGroupThatIsGivenUpLeavesNoLabel releases before anything was cut.
func TestAGroupThatIsGivenUpLeavesNoLabel(t *testing.T) {
	k := newCluster(t, interceptor.Funcs{}, claim("a", nil), claim("b", nil), volume("a"), volume("b"), groupClass("x", driver, true))
	s := k.snapshots()
	_, err := s.EnsureTogether(t.Context(), together("a", "b"))
	k.must(err)
	if k.labelled() != 2 {
		t.Fatal("no labels")
	}
	for range 2 {
		_, err = s.Release(t.Context(), owner)
		k.must(err)
	}
	if k.labelled() != 0 || k.count(&groupv1.VolumeGroupSnapshotList{}) != 0 {
		t.Errorf("%d labels are left", k.labelled())
	}
}
