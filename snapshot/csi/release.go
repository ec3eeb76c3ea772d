package csi

import (
	"context"
	"fmt"
	"slices"
	"strings"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// stage deletes one kind of what an owner has, and tells how many are left.
type stage func(context.Context, Owner) (left int, err error)

// ReleaseExposures deletes the owner's exposures and holds, and reports done
// when nothing of them is left. Its snapshots stay.
func (s *Snapshots) ReleaseExposures(ctx context.Context, o Owner) (done bool, err error) {
	return s.release(ctx, o, s.releasePods, s.releaseClaims, s.releaseVolumes,
		s.keepHandles, s.releaseAliases, s.releaseAliasContents)
}

// Release deletes the owner's exposures and then its snapshots, in the cluster
// and in the storage, and reports done when nothing of them is left.
func (s *Snapshots) Release(ctx context.Context, o Owner) (done bool, err error) {
	if done, err := s.ReleaseExposures(ctx, o); err != nil || !done {
		return false, err
	}
	// Members go with their group, and are not deleted one by one.
	if done, err := s.ReleaseGroups(ctx, o); err != nil || !done {
		return false, err
	}
	return s.release(ctx, o, s.releaseSnapshots, s.releaseContents)
}

// release goes through the stages in order: each uses what the next deletes.
func (s *Snapshots) release(ctx context.Context, o Owner, stages ...stage) (bool, error) {
	if o.UID == "" {
		return false, fmt.Errorf("release what %q owns: the owner has no uid", o.Name)
	}
	for _, stage := range stages {
		left, err := stage(ctx, o)
		if err != nil {
			return false, fmt.Errorf("release what %s owns: %w", o.Name, err)
		}
		if left > 0 {
			return false, nil
		}
	}
	return true, nil
}

func owned(o Owner, role string) client.MatchingLabels { return labels(o, role) }

func (s *Snapshots) releasePods(ctx context.Context, o Owner) (int, error) {
	left := 0
	for _, role := range []string{roleExposure, roleHold} {
		var pods corev1.PodList
		if err := s.live.List(ctx, &pods, owned(o, role)); err != nil {
			return 0, fmt.Errorf("list holder pods: %w", err)
		}
		left += len(pods.Items)
		for i := range pods.Items {
			if err := s.remove(ctx, &pods.Items[i]); err != nil {
				return 0, err
			}
		}
	}
	return left, nil
}

func (s *Snapshots) releaseClaims(ctx context.Context, o Owner) (int, error) {
	var claims corev1.PersistentVolumeClaimList
	if err := s.live.List(ctx, &claims, client.InNamespace(s.cfg.Namespace), owned(o, roleExposure)); err != nil {
		return 0, fmt.Errorf("list temporary claims: %w", err)
	}
	for i := range claims.Items {
		if err := s.remove(ctx, &claims.Items[i]); err != nil {
			return 0, err
		}
	}
	return len(claims.Items), nil
}

// releaseVolumes sees to it that the volumes of the temporary claims go too: a
// storage class that retains volumes means those of applications. They are
// known by the claim's name, for the provisioner may finish one after its claim
// was deleted.
func (s *Snapshots) releaseVolumes(ctx context.Context, o Owner) (int, error) {
	var volumes corev1.PersistentVolumeList
	if err := s.live.List(ctx, &volumes); err != nil {
		return 0, fmt.Errorf("list PersistentVolumes: %w", err)
	}
	left := 0
	for i := range volumes.Items {
		pv := &volumes.Items[i]
		ref := pv.Spec.ClaimRef
		if ref == nil || ref.Namespace != s.cfg.Namespace || !strings.HasPrefix(ref.Name, ownPrefix(o)) {
			continue
		}
		left++
		if pv.DeletionTimestamp != nil || pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
			continue
		}
		patch := client.MergeFrom(pv.DeepCopy())
		pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
		if err := ignoreAbsent("let temporary PersistentVolume "+pv.Name+" be deleted", s.client.Patch(ctx, pv, patch)); err != nil {
			return 0, err
		}
	}
	return left, nil
}

// keepHandles sees to it that no alias takes the handle with it, should anything
// have changed its policy.
func (s *Snapshots) keepHandles(ctx context.Context, o Owner) (int, error) {
	var contents snapshotv1.VolumeSnapshotContentList
	if err := s.live.List(ctx, &contents, owned(o, roleExposure)); err != nil {
		return 0, absent("VolumeSnapshotContents", err)
	}
	changed := 0
	for i := range contents.Items {
		c := &contents.Items[i]
		if c.Spec.DeletionPolicy == snapshotv1.VolumeSnapshotContentRetain {
			continue
		}
		changed++
		patch := client.MergeFrom(c.DeepCopy())
		c.Spec.DeletionPolicy = snapshotv1.VolumeSnapshotContentRetain
		if err := ignoreAbsent("retain the snapshot behind VolumeSnapshotContent "+c.Name, s.client.Patch(ctx, c, patch)); err != nil {
			return 0, err
		}
	}
	return changed, nil
}

func (s *Snapshots) releaseAliases(ctx context.Context, o Owner) (int, error) {
	var aliases snapshotv1.VolumeSnapshotList
	err := s.live.List(ctx, &aliases, client.InNamespace(s.cfg.Namespace), owned(o, roleExposure))
	if err != nil {
		return 0, absent("VolumeSnapshots", err)
	}
	for i := range aliases.Items {
		if err := s.remove(ctx, &aliases.Items[i]); err != nil {
			return 0, err
		}
	}
	return len(aliases.Items), nil
}

func (s *Snapshots) releaseAliasContents(ctx context.Context, o Owner) (int, error) {
	var contents snapshotv1.VolumeSnapshotContentList
	if err := s.live.List(ctx, &contents, owned(o, roleExposure)); err != nil {
		return 0, absent("VolumeSnapshotContents", err)
	}
	for i := range contents.Items {
		if err := s.remove(ctx, &contents.Items[i]); err != nil {
			return 0, err
		}
	}
	return len(contents.Items), nil
}

func (s *Snapshots) releaseSnapshots(ctx context.Context, o Owner) (int, error) {
	var snapshots snapshotv1.VolumeSnapshotList
	if err := s.live.List(ctx, &snapshots, owned(o, roleSnapshot)); err != nil {
		return 0, absent("VolumeSnapshots", err)
	}
	for i := range snapshots.Items {
		vs := &snapshots.Items[i]
		if err := s.claimContent(ctx, o, vs); err != nil {
			return 0, err
		}
		if err := s.remove(ctx, vs); err != nil {
			return 0, err
		}
	}
	return len(snapshots.Items), nil
}

// claimContent marks a snapshot's content as the owner's and lets it be deleted
// with the snapshot, whatever the class says: Godwit asked for this one.
func (s *Snapshots) claimContent(ctx context.Context, o Owner, vs *snapshotv1.VolumeSnapshot) error {
	// So the snapshot-controller names it, also before it is bound.
	name := "snapcontent-" + string(vs.UID)
	if vs.Status != nil && vs.Status.BoundVolumeSnapshotContentName != nil {
		name = *vs.Status.BoundVolumeSnapshotContentName
	}
	var content snapshotv1.VolumeSnapshotContent
	if err := s.live.Get(ctx, types.NamespacedName{Name: name}, &content); err != nil {
		return ignoreAbsent(fmt.Sprintf("read VolumeSnapshotContent %s", name), err)
	}
	dynamic := content.Spec.Source.VolumeHandle != nil
	if content.Spec.VolumeSnapshotRef.UID != vs.UID || !dynamic || isOwned(&content, o) || content.DeletionTimestamp != nil {
		return nil
	}
	patch := client.MergeFrom(content.DeepCopy())
	if content.Labels == nil {
		content.Labels = map[string]string{}
	}
	for k, v := range labels(o, roleSnapshot) {
		content.Labels[k] = v
	}
	content.Spec.DeletionPolicy = snapshotv1.VolumeSnapshotContentDelete
	return ignoreAbsent(fmt.Sprintf("let VolumeSnapshotContent %s be deleted", name), s.client.Patch(ctx, &content, patch))
}

// releaseContents deletes what outlived its snapshot, as happens when the
// snapshot-controller had not yet seen the policy change.
func (s *Snapshots) releaseContents(ctx context.Context, o Owner) (int, error) {
	var contents snapshotv1.VolumeSnapshotContentList
	if err := s.live.List(ctx, &contents, owned(o, roleSnapshot)); err != nil {
		return 0, absent("VolumeSnapshotContents", err)
	}
	for i := range contents.Items {
		if err := s.remove(ctx, &contents.Items[i]); err != nil {
			return 0, err
		}
	}
	return len(contents.Items), nil
}

// absent takes a cluster without the snapshot CRDs for one that holds no snapshots.
func absent(what string, err error) error {
	if meta.IsNoMatchError(err) {
		return nil
	}
	return fmt.Errorf("list %s: %w", what, err)
}

func ignoreAbsent(what string, err error) error {
	if client.IgnoreNotFound(err) == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Owners lists the uids of all owners that anything is still kept for, so that
// what belongs to an owner that is gone can be released.
func (s *Snapshots) Owners(ctx context.Context) ([]types.UID, error) {
	var owners []types.UID
	for _, role := range []string{roleSnapshot, roleExposure, roleHold} {
		with := client.MatchingLabels{LabelManagedBy: managedBy, LabelRole: role}
		lists := []client.ObjectList{&corev1.PodList{}, &corev1.PersistentVolumeClaimList{},
			&snapshotv1.VolumeSnapshotList{}, &snapshotv1.VolumeSnapshotContentList{}}
		for _, list := range lists {
			if err := s.live.List(ctx, list, with); meta.IsNoMatchError(err) {
				continue
			} else if err != nil {
				return nil, fmt.Errorf("list what Godwit made: %w", err)
			}
			err := meta.EachListItem(list, func(obj runtime.Object) error {
				o, err := meta.Accessor(obj)
				if err != nil {
					return err
				}
				owners = append(owners, types.UID(o.GetLabels()[LabelOwner]))
				return nil
			})
			if err != nil {
				return nil, fmt.Errorf("list what Godwit made: %w", err)
			}
		}
	}
	slices.Sort(owners)
	return slices.Compact(owners), nil
}
