package csi

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=patch
// +kubebuilder:rbac:groups=groupsnapshot.storage.k8s.io,resources=volumegroupsnapshots,verbs=get;list;create;patch;delete
// +kubebuilder:rbac:groups=groupsnapshot.storage.k8s.io,resources=volumegroupsnapshotcontents,verbs=get;patch
// +kubebuilder:rbac:groups=groupsnapshot.storage.k8s.io,resources=volumegroupsnapshotclasses,verbs=list

const (
	groupAPI = "groupsnapshot.storage.k8s.io"
	// labelGroup is on claims as long as a group snapshot of them is being asked
	// for: by labels alone can its members be chosen.
	labelGroup = "godwit.io/group-snapshot"

	annotationDefaultGroupClass = "groupsnapshot.storage.kubernetes.io/is-default-class"
)

// Member is one snapshot of several that were asked for together.
type Member struct {
	// Snapshot is the VolumeSnapshot's name in the claim's namespace; its state
	// is that of EnsureSnapshot.
	Snapshot string
	SnapshotState
	// Group is the VolumeGroupSnapshot by which it is of one moment with the others
	// of its driver and namespace; empty where it is alone, and Reason says why.
	Group  string
	Reason string
}

// EnsureTogether asks for snapshots of one owner, or tells how far they are, in
// the order of the requests. Claims of one namespace and driver are taken at one
// moment where the driver has a VolumeGroupSnapshotClass, else one by one. The
// name of a request is that of its VolumeSnapshot only where it is taken alone.
func (s *Snapshots) EnsureTogether(ctx context.Context, requests []SnapshotRequest) ([]Member, error) {
	members := make([]Member, len(requests))
	sets := map[groupKey][]int{}
	for i, r := range requests {
		key, reason, err := s.groupOf(ctx, r)
		if err != nil {
			return nil, err
		}
		if members[i].Reason = reason; reason == "" {
			sets[key] = append(sets[key], i)
		}
	}
	for key, set := range sets {
		if len(set) < 2 {
			members[set[0]].Reason = fmt.Sprintf("no other claim of namespace %s is on driver %s", key.namespace, key.driver)
			continue
		}
		if err := s.ensureGroup(ctx, key, requests, set, members); err != nil {
			return nil, err
		}
	}
	for i, r := range requests {
		if members[i].Group != "" {
			continue
		}
		state, err := s.EnsureSnapshot(ctx, r)
		if err != nil {
			return nil, err
		}
		members[i].Snapshot, members[i].SnapshotState = r.Name, state
	}
	return members, nil
}

// groupKey is what claims have in common that are taken together.
type groupKey struct{ namespace, driver, class string }

// groupOf finds what the claim can be taken together by, or why it cannot.
func (s *Snapshots) groupOf(ctx context.Context, r SnapshotRequest) (groupKey, string, error) {
	var pvc corev1.PersistentVolumeClaim
	key := types.NamespacedName{Namespace: r.Namespace, Name: r.Claim}
	if err := s.client.Get(ctx, key, &pvc); err != nil {
		return groupKey{}, "", fmt.Errorf("read PersistentVolumeClaim %s: %w", key, err)
	}
	pv, err := s.volumeOf(ctx, &pvc)
	if err != nil {
		return groupKey{}, "", err
	}
	if pv.Spec.CSI == nil {
		return groupKey{}, fmt.Sprintf("PersistentVolume %s is not of a CSI driver", pv.Name), nil
	}
	classes, err := s.groupList(ctx, "VolumeGroupSnapshotClass", s.live)
	if meta.IsNoMatchError(err) {
		return groupKey{}, "the cluster has no VolumeGroupSnapshots", nil
	}
	if err != nil {
		return groupKey{}, "", err
	}
	fits := slices.DeleteFunc(classes, func(c unstructured.Unstructured) bool {
		driver, _, _ := unstructured.NestedString(c.Object, "driver")
		return driver != pv.Spec.CSI.Driver
	})
	if len(fits) == 0 {
		return groupKey{}, fmt.Sprintf("no VolumeGroupSnapshotClass names driver %s", pv.Spec.CSI.Driver), nil
	}
	class := slices.MinFunc(fits, func(a, b unstructured.Unstructured) int {
		return cmp.Or(
			cmp.Compare(rank(a.GetAnnotations()[annotationDefaultGroupClass]), rank(b.GetAnnotations()[annotationDefaultGroupClass])),
			cmp.Compare(a.GetName(), b.GetName()),
		)
	})
	return groupKey{r.Namespace, pv.Spec.CSI.Driver, class.GetName()}, "", nil
}

// ensureGroup takes one VolumeGroupSnapshot and fills in its members.
func (s *Snapshots) ensureGroup(ctx context.Context, key groupKey, requests []SnapshotRequest, set []int, members []Member) error {
	owner := requests[set[0]].Owner
	name := ownName(owner, key.namespace, key.driver, "group")
	group, err := s.ensureGroupSnapshot(ctx, owner, key, name, requests, set)
	if err != nil {
		return err
	}
	for _, i := range set {
		members[i].Group = name
	}
	if problem, _, _ := unstructured.NestedString(group.Object, "status", "error", "message"); problem != "" {
		for _, i := range set {
			members[i].Err = problem
		}
	}
	taken := cutAt(group)
	ready, _, _ := unstructured.NestedBool(group.Object, "status", "readyToUse")
	if taken.IsZero() && !ready {
		return nil
	}
	// Its members were chosen when it was cut: the label has served.
	if err := s.label(ctx, key.namespace, name, requests, set, false); err != nil {
		return err
	}
	if ready {
		if err := s.fillMembers(ctx, key, group.GetName(), requests, set, members); err != nil {
			return err
		}
	}
	for _, i := range set {
		if !taken.IsZero() {
			members[i].Taken = taken
		}
	}
	return nil
}

// cutAt is the one moment of a group; zero where it has not been cut yet, or
// does not say.
func cutAt(group *unstructured.Unstructured) time.Time {
	text, _, _ := unstructured.NestedString(group.Object, "status", "creationTime")
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return at
}

// ensureGroupSnapshot labels the claims first, so that none is left out.
func (s *Snapshots) ensureGroupSnapshot(ctx context.Context, o Owner, key groupKey, name string, requests []SnapshotRequest, set []int) (*unstructured.Unstructured, error) {
	gvk, err := s.groupKind("VolumeGroupSnapshot")
	if err != nil {
		return nil, err
	}
	found := &unstructured.Unstructured{}
	found.SetGroupVersionKind(gvk)
	at := types.NamespacedName{Namespace: key.namespace, Name: name}
	err = s.live.Get(ctx, at, found)
	if err == nil && !isOwned(found, o) {
		return nil, &FinalError{Problem: fmt.Sprintf("VolumeGroupSnapshot %s is there already and was not made for %s", at, o.Name), Remedy: "delete it"}
	}
	if !apierrors.IsNotFound(err) {
		return found, describe(err, "read", found, at)
	}
	if err := s.label(ctx, key.namespace, name, requests, set, true); err != nil {
		return nil, err
	}
	want := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"volumeGroupSnapshotClassName": key.class,
		"source":                       map[string]any{"selector": map[string]any{"matchLabels": map[string]any{labelGroup: name}}},
	}}}
	want.SetGroupVersionKind(gvk)
	m := objectMeta(o, roleSnapshot, key.namespace, name)
	want.SetNamespace(m.Namespace)
	want.SetName(m.Name)
	want.SetLabels(m.Labels)
	want.SetAnnotations(m.Annotations)
	return want, describe(s.client.Create(ctx, want), "create", want, at)
}

// label puts the group's label on the claims, or takes it off again: it must
// not go with the application to another cluster.
func (s *Snapshots) label(ctx context.Context, namespace, group string, requests []SnapshotRequest, set []int, on bool) error {
	for _, i := range set {
		var pvc corev1.PersistentVolumeClaim
		key := types.NamespacedName{Namespace: namespace, Name: requests[i].Claim}
		if err := s.live.Get(ctx, key, &pvc); err != nil {
			return fmt.Errorf("read PersistentVolumeClaim %s: %w", key, err)
		}
		if (pvc.Labels[labelGroup] == group) == on {
			continue
		}
		patch := client.MergeFrom(pvc.DeepCopy())
		if pvc.Labels == nil {
			pvc.Labels = map[string]string{}
		}
		pvc.Labels[labelGroup] = group
		if !on {
			delete(pvc.Labels, labelGroup)
		}
		if err := s.client.Patch(ctx, &pvc, patch); err != nil {
			return fmt.Errorf("label PersistentVolumeClaim %s for its group snapshot: %w", key, err)
		}
	}
	return nil
}

// fillMembers finds each claim's VolumeSnapshot among the group's.
func (s *Snapshots) fillMembers(ctx context.Context, key groupKey, group string, requests []SnapshotRequest, set []int, members []Member) error {
	var all snapshotv1.VolumeSnapshotList
	if err := s.live.List(ctx, &all, client.InNamespace(key.namespace)); err != nil {
		return fmt.Errorf("list the members of VolumeGroupSnapshot %s/%s: %w", key.namespace, group, err)
	}
	for _, i := range set {
		at := slices.IndexFunc(all.Items, func(vs snapshotv1.VolumeSnapshot) bool {
			of := vs.Status != nil && vs.Status.VolumeGroupSnapshotName != nil && *vs.Status.VolumeGroupSnapshotName == group
			return of && vs.Spec.Source.PersistentVolumeClaimName != nil && *vs.Spec.Source.PersistentVolumeClaimName == requests[i].Claim
		})
		if at < 0 {
			members[i].Err = cmp.Or(members[i].Err, fmt.Sprintf("VolumeGroupSnapshot %s/%s has no snapshot of it yet", key.namespace, group))
			continue
		}
		state, _, err := s.snapshotState(ctx, &all.Items[at])
		if err != nil {
			return err
		}
		members[i].Snapshot, members[i].SnapshotState = all.Items[at].Name, state
	}
	return nil
}

// ReleaseGroups deletes the owner's group snapshots with their members, in the
// cluster and in the storage, and reports done when nothing of them is left. It
// comes before Release: members are not deleted one by one.
func (s *Snapshots) ReleaseGroups(ctx context.Context, o Owner) (done bool, err error) {
	if o.UID == "" {
		return false, fmt.Errorf("release what %q owns: the owner has no uid", o.Name)
	}
	if err := s.unlabel(ctx, o); err != nil {
		return false, err
	}
	groups, err := s.groupList(ctx, "VolumeGroupSnapshot", s.live, owned(o, roleSnapshot))
	if meta.IsNoMatchError(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("release what %s owns: %w", o.Name, err)
	}
	for i := range groups {
		if err := s.deleteWithGroup(ctx, &groups[i]); err != nil {
			return false, err
		}
		if err := s.remove(ctx, &groups[i]); err != nil {
			return false, err
		}
	}
	return len(groups) == 0, nil
}

// unlabel takes the labels off claims whose group was given up before it was cut,
// or was never made.
func (s *Snapshots) unlabel(ctx context.Context, o Owner) error {
	var claims corev1.PersistentVolumeClaimList
	if err := s.live.List(ctx, &claims, client.HasLabels{labelGroup}); err != nil {
		return fmt.Errorf("list the claims of group snapshots: %w", err)
	}
	for i := range claims.Items {
		pvc := &claims.Items[i]
		if !strings.HasPrefix(pvc.Labels[labelGroup], ownPrefix(o)) {
			continue
		}
		patch := client.MergeFrom(pvc.DeepCopy())
		delete(pvc.Labels, labelGroup)
		what := fmt.Sprintf("take the label of its group snapshot off PersistentVolumeClaim %s/%s", pvc.Namespace, pvc.Name)
		if err := ignoreAbsent(what, s.client.Patch(ctx, pvc, patch)); err != nil {
			return err
		}
	}
	return nil
}

// adoptGroup gives a group with all its members to another owner.
func (s *Snapshots) adoptGroup(ctx context.Context, key types.NamespacedName, from, to Owner) error {
	gvk, err := s.groupKind("VolumeGroupSnapshot")
	if err != nil {
		return err
	}
	group := &unstructured.Unstructured{}
	group.SetGroupVersionKind(gvk)
	if err := s.live.Get(ctx, key, group); err != nil {
		return fmt.Errorf("read VolumeGroupSnapshot %s: %w", key, err)
	}
	return s.give(ctx, group, from, to)
}

// deleteWithGroup lets a group go from the storage with its object, whatever its
// class says: Godwit asked for this one.
func (s *Snapshots) deleteWithGroup(ctx context.Context, group *unstructured.Unstructured) error {
	name, _, _ := unstructured.NestedString(group.Object, "status", "boundVolumeGroupSnapshotContentName")
	if name == "" {
		return nil
	}
	gvk, err := s.groupKind("VolumeGroupSnapshotContent")
	if err != nil {
		return err
	}
	content := &unstructured.Unstructured{}
	content.SetGroupVersionKind(gvk)
	if err := s.live.Get(ctx, types.NamespacedName{Name: name}, content); err != nil {
		return ignoreAbsent("read VolumeGroupSnapshotContent "+name, err)
	}
	if policy, _, _ := unstructured.NestedString(content.Object, "spec", "deletionPolicy"); policy == string(snapshotv1.VolumeSnapshotContentDelete) {
		return nil
	}
	patch := client.MergeFrom(content.DeepCopy())
	if err := unstructured.SetNestedField(content.Object, string(snapshotv1.VolumeSnapshotContentDelete), "spec", "deletionPolicy"); err != nil {
		return fmt.Errorf("let VolumeGroupSnapshotContent %s be deleted: %w", name, err)
	}
	return ignoreAbsent(fmt.Sprintf("let VolumeGroupSnapshotContent %s be deleted", name), s.client.Patch(ctx, content, patch))
}

// groupKind is a kind in whichever version the cluster prefers: v1, v1beta2 and
// v1beta1 have the same fields as far as they are used here.
func (s *Snapshots) groupKind(kind string) (schema.GroupVersionKind, error) {
	mapping, err := s.client.RESTMapper().RESTMapping(schema.GroupKind{Group: groupAPI, Kind: kind})
	if err != nil {
		return schema.GroupVersionKind{}, fmt.Errorf("find kind %s: %w", kind, err)
	}
	return mapping.GroupVersionKind, nil
}

func (s *Snapshots) groupList(ctx context.Context, kind string, from client.Reader, opts ...client.ListOption) ([]unstructured.Unstructured, error) {
	gvk, err := s.groupKind(kind)
	if err != nil {
		return nil, err
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(gvk.GroupVersion().WithKind(kind + "List"))
	if err := from.List(ctx, list, opts...); err != nil {
		return nil, fmt.Errorf("list %ss: %w", kind, err)
	}
	return list.Items, nil
}
