package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// +kubebuilder:rbac:groups="",namespace=godwit-system,resources=configmaps,verbs=list;create;update;delete

const keyBases = "bases"

// base is the one snapshot of a claim that the next delta may start from, with
// the image that was made of it.
type base struct {
	Namespace string `json:"namespace"`
	Claim     string `json:"claim"`
	// VolumeHandle is the driver's name of the volume: a claim of the same name
	// that is made anew has another, and its changes are no delta to this one.
	VolumeHandle string `json:"volumeHandle"`
	// Snapshot is the VolumeSnapshot in Namespace, SnapshotHandle the driver's name of it.
	Snapshot       string `json:"snapshot"`
	SnapshotHandle string `json:"snapshotHandle"`
	// Group is the VolumeGroupSnapshot that it stays and goes with; empty if it was
	// taken alone.
	Group string `json:"group,omitempty"`
	Image string `json:"image"`
	Round string `json:"round"`
	// Pair is the ClusterPair of that round, and Taken when the snapshot was.
	Pair  string       `json:"pair,omitempty"`
	Taken *metav1.Time `json:"taken,omitempty"`
	// Rung, Node and Read are how, where and as of when the volume was last read itself.
	Rung string       `json:"rung,omitempty"`
	Node string       `json:"node,omitempty"`
	Read *metav1.Time `json:"read,omitempty"`
}

func (b base) ofTransfer() *api.TransferBase {
	return &api.TransferBase{Image: b.Image, SnapshotHandle: b.SnapshotHandle}
}

// book is what is remembered of an application and a repository from one round to the
// next. It is a ConfigMap in Godwit's namespace, and owns the snapshots in it.
type book struct {
	config *corev1.ConfigMap
	// Repository is the id of the one that has the images: after another pairing they
	// are out of reach.
	Repository string `json:"pairID"`
	Bases      []base `json:"bases"`
	// Stale bases were replaced, and are to be released.
	Stale []base `json:"stale,omitempty"`
}

// bookKey goes by the ClusterPair that the repository was made for, whose book all that
// share it use.
func (x *run) bookKey() types.NamespacedName {
	pair := x.m.Spec.ClusterPair
	for name, p := range x.sharers {
		if p.Status.PairID == p.Status.Repository {
			pair = name
		}
	}
	sum := sha256.Sum256([]byte(x.m.Namespace + "/" + pair + "/" + x.application()))
	return types.NamespacedName{Namespace: x.Namespace, Name: "bases-" + hex.EncodeToString(sum[:8])}
}

// book gives what is remembered; nil where nothing is.
func (x *run) book(ctx context.Context) (*book, error) {
	config := &corev1.ConfigMap{}
	err := x.Client.Get(ctx, x.bookKey(), config)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // nothing is remembered
	}
	if err != nil {
		return nil, fmt.Errorf("read the bases of %s: %w", x.application(), err)
	}
	b := &book{config: config}
	if err := json.Unmarshal([]byte(config.Data[keyBases]), b); err != nil {
		return nil, fmt.Errorf("read the bases of %s in ConfigMap %s: %w: delete it, and the next round is a full copy", x.application(), x.bookKey(), err)
	}
	return b, nil
}

func (x *run) ensureBook(ctx context.Context) (*book, error) {
	b, err := x.book(ctx)
	if err != nil {
		return nil, err
	}
	if b != nil && b.Repository != x.peer.RepositoryID() {
		b.Repository, b.Bases, b.Stale = x.peer.RepositoryID(), nil, append(b.Stale, b.Bases...)
	}
	if b != nil {
		return b, nil
	}
	key := x.bookKey()
	config := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: key.Name, Labels: map[string]string{labelManaged: managedBy},
			Annotations: map[string]string{"godwit.io/application": x.application()},
		},
		Data: map[string]string{keyBases: "{}"},
	}
	if err := x.Client.Create(ctx, config); err != nil {
		return nil, fmt.Errorf("remember the bases of %s: %w", x.application(), err)
	}
	return &book{config: config, Repository: x.peer.RepositoryID()}, nil
}

func (x *run) writeBook(ctx context.Context, b *book) error {
	data, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("remember the bases of %s: %w", x.application(), err)
	}
	b.config.Data = map[string]string{keyBases: string(data)}
	if err := x.Client.Update(ctx, b.config); err != nil {
		return fmt.Errorf("remember the bases of %s: %w", x.application(), err)
	}
	return nil
}

// owner of one base: each is released by itself, or with its group.
func (b *book) owner(x *run, e base) csi.Owner {
	key := e.Snapshot
	if e.Group != "" {
		key = "group/" + e.Namespace + "/" + e.Group
	}
	return csi.Owner{UID: types.UID(string(b.config.UID) + "-" + digest(key)), Name: x.application()}
}

func (b *book) find(namespace, claim string) int {
	return slices.IndexFunc(b.Bases, func(e base) bool { return e.Namespace == namespace && e.Claim == claim })
}

// deltaBase is what the delta of a volume may start from; nil for a full copy, which
// is always right.
func (x *run) deltaBase(ctx context.Context, v *api.MigrationVolumeInfo) (*base, error) {
	if v.Method != api.MethodBlock || v.Live {
		return nil, nil //nolint:nilnil // files have no delta by blocks
	}
	b, err := x.book(ctx)
	if err != nil || b == nil || b.Repository != x.peer.RepositoryID() {
		return nil, err
	}
	i := b.find(v.Namespace, v.PersistentVolumeClaim)
	if i < 0 {
		return nil, nil //nolint:nilnil // the first round
	}
	handle, err := x.volumeHandle(ctx, v)
	if err != nil || handle == "" || handle != b.Bases[i].VolumeHandle || !x.precedes(b.Bases[i], v) {
		return nil, err
	}
	return &b.Bases[i], nil
}

// precedes is false for a base that may have been taken after this round's snapshot: by a
// round to another target, while this one waited for its own.
func (x *run) precedes(b base, v *api.MigrationVolumeInfo) bool {
	return b.Pair == "" || b.Pair == x.m.Spec.ClusterPair || b.Taken != nil && v.Taken != nil && b.Taken.Before(v.Taken)
}

// volumeHandle is empty for a volume that is gone, or of no CSI driver.
func (x *run) volumeHandle(ctx context.Context, v *api.MigrationVolumeInfo) (string, error) {
	var pv corev1.PersistentVolume
	err := x.Client.Get(ctx, types.NamespacedName{Name: v.Volume}, &pv)
	if apierrors.IsNotFound(err) || err == nil && pv.Spec.CSI == nil {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read volume %s: %w", v.Volume, err)
	}
	return pv.Spec.CSI.VolumeHandle, nil
}

// keepsStandby is true for a Migration after which the same standby can be
// brought forward again.
func (x *run) keepsStandby() bool {
	succeeded := x.m.Status.Stage == api.MigrationStageFinal && x.m.Status.Status != api.MigrationStatusFailed && x.m.Status.Status != api.MigrationStatusCancelled
	return succeeded && isTrue(x.m.Spec.Stage, false)
}

// keepBases makes the snapshots of a round the bases of the next, and lets go of those
// that they replace: there is exactly one for each volume and repository. From then on another
// round may be under way, and only that one changes the bases.
func (x *run) keepBases(ctx context.Context) error {
	b, err := x.ensureBook(ctx)
	if err != nil {
		return err
	}
	changed := len(b.Stale) > 0
	for i := range x.m.Status.Volumes {
		replaced, err := x.keepBase(ctx, b, &x.m.Status.Volumes[i])
		if err != nil {
			return err
		}
		changed = changed || replaced
	}
	if !changed {
		return nil
	}
	return x.writeBook(ctx, b)
}

func (x *run) keepBase(ctx context.Context, b *book, v *api.MigrationVolumeInfo) (replaced bool, err error) {
	name := x.snapshotOf(*v)
	i := b.find(v.Namespace, v.PersistentVolumeClaim)
	if v.Method != api.MethodBlock || v.Live || v.Image == "" || v.SnapshotHandle == "" || i >= 0 && b.Bases[i].Snapshot == name {
		return false, nil
	}
	handle, err := x.volumeHandle(ctx, v)
	if err != nil || handle == "" || i >= 0 && !x.precedes(b.Bases[i], v) {
		return false, err
	}
	next := base{
		Namespace: v.Namespace, Claim: v.PersistentVolumeClaim, VolumeHandle: handle,
		Snapshot: name, SnapshotHandle: v.SnapshotHandle, Group: v.GroupSnapshot, Image: v.Image, Round: x.m.Status.Round,
		Pair: x.m.Spec.ClusterPair, Taken: v.Taken, Rung: v.Rung, Node: v.Node, Read: v.Read,
	}
	kept := csi.Kept{Namespace: v.Namespace, Snapshot: name, Group: v.GroupSnapshot}
	if err := x.Snapshots.Adopt(ctx, kept, x.owner(), b.owner(x, next)); apierrors.IsNotFound(err) {
		return false, nil // Somebody deleted it: the older base is as good.
	} else if err != nil {
		return false, fmt.Errorf("keep the base of claim %s/%s: %w", v.Namespace, v.PersistentVolumeClaim, err)
	}
	if i < 0 {
		b.Bases = append(b.Bases, next)
		return true, nil
	}
	b.Stale = append(b.Stale, b.Bases[i])
	b.Bases[i] = next
	return true, nil
}

// needs is true for a base that was replaced, and whose group another base is of:
// it goes with the last of them.
func (b *book) needs(old base) bool {
	return old.Group != "" && slices.ContainsFunc(b.Bases, func(e base) bool { return e.Namespace == old.Namespace && e.Group == old.Group })
}

// releaseStale releases the bases that were replaced. It reports whether nothing is left
// to do.
func (x *run) releaseStale(ctx context.Context) (bool, error) {
	b, err := x.book(ctx)
	if err != nil || b == nil || len(b.Stale) == 0 {
		return err == nil, err
	}
	for _, old := range b.Stale {
		if b.needs(old) {
			continue
		}
		done, err := x.Snapshots.Release(ctx, b.owner(x, old))
		if err != nil || !done {
			return false, err
		}
	}
	b.Stale = nil
	return true, x.writeBook(ctx, b)
}

// dropBook releases all bases and forgets them, unless rounds to another target start
// from them too. It reports whether all is done.
func (x *run) dropBook(ctx context.Context) (bool, error) {
	if x.sharesBases {
		return x.releaseStale(ctx)
	}
	b, err := x.book(ctx)
	if err != nil || b == nil {
		return b == nil && err == nil, err
	}
	done := true
	for _, e := range append(slices.Clone(b.Bases), b.Stale...) {
		released, err := x.Snapshots.Release(ctx, b.owner(x, e))
		if err != nil {
			return false, fmt.Errorf("release the base of claim %s/%s: %w", e.Namespace, e.Claim, err)
		}
		done = done && released
	}
	if !done {
		return false, nil
	}
	if err := x.Client.Delete(ctx, b.config); client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("forget the bases of %s: %w", x.application(), err)
	}
	return true, nil
}
