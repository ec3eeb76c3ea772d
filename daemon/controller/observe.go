package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// The conditions that remember how far a Migration came.
const (
	conditionAdmitted    = "Admitted"
	conditionChecked     = "Preflight"
	conditionSnapshotted = "Snapshotted"
	conditionUploaded    = "Uploaded"
	conditionSealed      = "Sealed"
	conditionBegun       = "Begun"
	conditionReleased    = "Released"
	conditionCleared     = "TargetCleared"
	conditionComplete    = "Complete"
	// conditionStopping is set before the first workload of the source is stopped,
	// conditionQuiesced once none of its pods has a volume that moves.
	conditionStopping = "Quiescing"
	conditionQuiesced = "Quiesced"
	conditionStarted  = "Started"
	// conditionVerified is set once every volume of the target was checked,
	// conditionApplied once every object was applied or refused.
	conditionVerified = "Verified"
	conditionApplied  = "Applied"
	// conditionIncremental tells the rungs of the ladder that were used.
	conditionIncremental = "Incremental"
)

// claim is one volume of the source with how it will be read.
type claim struct {
	pvc        corev1.PersistentVolumeClaim
	size       int64
	capability csi.Capability
	choice     migrate.Choice
	// moved is true for a volume that is handed over and not read.
	moved   bool
	refused string
	warning string
}

func (x *run) has(condition string) bool {
	return meta.IsStatusConditionTrue(x.m.Status.Conditions, condition)
}

func isTrue(b *bool, fallback bool) bool {
	if b == nil {
		return fallback
	}
	return *b
}

// observe fills in what Next decides by.
func (x *run) observe(ctx context.Context) error {
	o := &x.observed
	o.Deleting = !x.m.DeletionTimestamp.IsZero()
	o.HasFinalizer = controllerutil.ContainsFinalizer(x.m, api.Finalizer)
	o.OwnNamespace, o.AdminNamespace = x.m.Namespace, x.AdminNamespace
	o.SkipMissingNamespaces = isTrue(x.m.Spec.SkipDeletedNamespaces, true)
	o.DryRun = isTrue(x.m.Spec.DryRun, false)
	o.IncludeVolumes = isTrue(x.m.Spec.IncludeVolumes, true)
	o.Admitted, o.AskedTarget = x.has(conditionAdmitted), x.has(conditionChecked)
	o.Collected, o.Sealed, o.Begun = x.has(conditionSnapshotted), x.has(conditionSealed), x.has(conditionBegun)
	o.Ended = x.m.Status.Stage == api.MigrationStageFinal
	o.Failed = x.m.Status.Status == api.MigrationStatusFailed || x.m.Status.Status == api.MigrationStatusCancelled
	o.Released, o.Restored = x.has(conditionReleased), x.restored()
	o.Retained = x.has(conditionRetained)
	o.EpochAsked = x.asked()
	o.Cancel = isTrue(x.m.Spec.Cancel, false)
	o.Rollback = x.rollbackAsked()
	o.Precopy, o.Precopied = x.m.Spec.Precopy != nil, x.has(conditionPrecopied)
	o.Quiesce, o.Stopped = isTrue(x.m.Spec.Quiesce, false) || o.Precopy, x.has(conditionQuiesced)
	if err := x.observeRules(ctx); err != nil {
		return err
	}
	if err := x.observeHooks(ctx); err != nil {
		return err
	}
	if err := x.observePair(ctx); err != nil {
		return err
	}
	if err := x.observeSharers(ctx); err != nil {
		return err
	}
	if err := x.observeSiblings(ctx); err != nil {
		return err
	}
	switch {
	case o.Deleting || o.Ended:
		return nil
	case !o.Admitted:
		return x.observeCandidates(ctx)
	}
	o.Volumes = volumesOf(x.m.Status.Volumes)
	if o.Begun {
		return x.observeTarget(ctx)
	}
	return nil
}

func (x *run) observePair(ctx context.Context) error {
	o := &x.observed
	o.PairName = x.m.Spec.ClusterPair
	found, err := x.lookAtPair(ctx, types.NamespacedName{Namespace: x.m.Namespace, Name: o.PairName})
	if err != nil {
		return err
	}
	o.Pair, x.pair, x.peer = found.Pair, found.object, found.peer
	o.Pair.Repository = x.peer.Joined() && x.peer.RepositoryPassword != "" && !storageBroken(found.object)
	if !o.Pair.Ready {
		return x.observeAdminPair(ctx)
	}
	if x.target, err = x.Remote.Target(ctx, x.peer); err != nil {
		return err
	}
	return x.observeAdminPair(ctx)
}

// storageBroken is true for a pair whose repository is known not to answer.
func storageBroken(p *api.ClusterPair) bool {
	return p != nil && (p.Status.StorageStatus == api.ClusterPairStatusError || p.Status.StorageStatus == api.ClusterPairStatusDegraded)
}

// pairFound is a ClusterPair and what stands behind it.
type pairFound struct {
	migrate.Pair
	object *api.ClusterPair
	peer   pairing.Peer
}

func (x *run) lookAtPair(ctx context.Context, name types.NamespacedName) (pairFound, error) {
	var found pairFound
	var p api.ClusterPair
	err := x.Client.Get(ctx, name, &p)
	if apierrors.IsNotFound(err) || err == nil && isIncoming(&p, x.Namespace) {
		return found, nil
	}
	if err != nil {
		return found, fmt.Errorf("read ClusterPair %s: %w", name, err)
	}
	found.object, found.Found = &p, p.DeletionTimestamp.IsZero()
	ready := meta.FindStatusCondition(p.Status.Conditions, api.ConditionReady)
	switch {
	case p.Status.PairID == "" || ready == nil:
		found.Message = "it has not been paired yet"
		if ready != nil {
			found.Message = ready.Message
		}
		return found, nil
	case ready.Status != metav1.ConditionTrue:
		found.Message = ready.Message
	default:
		found.Ready = true
	}
	found.peer, err = x.Peers.Get(ctx, pairing.Outgoing, p.Status.PairID)
	if errors.Is(err, pairing.ErrNotFound) {
		found.Ready, found.Message = false, "its keys are gone: delete it and pair again"
		return found, nil
	}
	if err != nil {
		return found, fmt.Errorf("read pair %s: %w", p.Status.PairID, err)
	}
	return found, nil
}

// observeCandidates looks at namespaces and claims before anything is recorded.
func (x *run) observeCandidates(ctx context.Context) error {
	names, err := x.wantedNamespaces(ctx)
	if err != nil {
		return err
	}
	x.m.Status.Namespaces = nil
	for _, name := range names {
		var ns corev1.Namespace
		err := x.Client.Get(ctx, types.NamespacedName{Name: name}, &ns)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("read namespace %s: %w", name, err)
		}
		exists := err == nil && ns.DeletionTimestamp.IsZero()
		x.observed.Namespaces = append(x.observed.Namespaces, migrate.Namespace{Name: name, Exists: exists})
		if exists {
			x.m.Status.Namespaces = append(x.m.Status.Namespaces, name)
		}
		if !exists || !x.observed.IncludeVolumes {
			continue
		}
		if err := x.observeClaims(ctx, name); err != nil {
			return err
		}
	}
	return x.observeSizes(ctx)
}

func (x *run) observeClaims(ctx context.Context, namespace string) error {
	var list corev1.PersistentVolumeClaimList
	if err := x.Client.List(ctx, &list, client.InNamespace(namespace),
		client.MatchingLabelsSelector{Selector: labels.SelectorFromSet(x.m.Spec.Selectors)}); err != nil {
		return fmt.Errorf("list claims of %s: %w", namespace, err)
	}
	for _, pvc := range list.Items {
		if x.leftOut(pvc) {
			continue
		}
		c, err := x.examine(ctx, pvc)
		if err != nil {
			return err
		}
		x.claims = append(x.claims, c)
		x.observed.Volumes = append(x.observed.Volumes, migrate.Volume{Namespace: namespace, Name: pvc.Name, Refused: c.refused})
	}
	return nil
}

// leftOut is true for claims that the Migration's selectors or their own
// annotations leave out, as workload does for other objects.
func (x *run) leftOut(pvc corev1.PersistentVolumeClaim) bool {
	for k, v := range x.m.Spec.ExcludeSelectors {
		if got, ok := pvc.Labels[k]; ok && got == v {
			return true
		}
	}
	action := x.ruleFor(&pvc).Action
	if action == migrate.MoveVolume && isTrue(x.m.Spec.Stage, false) {
		// A stage run hands nothing over, and there is nothing to copy beforehand.
		return true
	}
	return action == migrate.SkipVolume || workload.SkipAsked(pvc.Annotations) || !pvc.DeletionTimestamp.IsZero()
}

func (x *run) examine(ctx context.Context, pvc corev1.PersistentVolumeClaim) (claim, error) {
	c := claim{pvc: pvc}
	if pvc.Status.Phase != corev1.ClaimBound {
		c.refused = fmt.Sprintf("it is %s, so it holds no data: bind it, delete it, or leave it out with spec.excludeSelectors", pvc.Status.Phase)
		return c, nil
	}
	size := pvc.Status.Capacity[corev1.ResourceStorage]
	c.size = size.Value()
	rule := x.ruleFor(&pvc)
	if c.refused = rule.Refusal(factsOf(&pvc)); c.refused != "" {
		return c, nil
	}
	if rule.Action == migrate.MoveVolume {
		err := x.examineMove(ctx, rule, &c)
		return c, err
	}
	var err error
	if c.capability, err = x.Snapshots.Capability(ctx, &pvc); err != nil {
		return c, fmt.Errorf("claim %s/%s: %w", pvc.Namespace, pvc.Name, err)
	}
	c.choice = migrate.ChooseMethod(rule.Method, migrate.VolumeFacts{
		BlockMode:    isBlock(pvc),
		Shared:       slices.Contains(pvc.Spec.AccessModes, corev1.ReadWriteMany) && !isBlock(pvc),
		HasSnapshots: c.capability.SnapshotClass != "",
		NoSnapshots:  c.capability.Reason,
	})
	c.refused, c.warning = c.choice.Refused, rule.Warning(c.choice.Method, isBlock(pvc))
	return c, nil
}

func isBlock(pvc corev1.PersistentVolumeClaim) bool {
	return pvc.Spec.VolumeMode != nil && *pvc.Spec.VolumeMode == corev1.PersistentVolumeBlock
}

func volumesOf(infos []api.MigrationVolumeInfo) []migrate.Volume {
	volumes := make([]migrate.Volume, 0, len(infos))
	for _, v := range infos {
		volume := migrate.Volume{
			Namespace: v.Namespace, Name: v.PersistentVolumeClaim, Image: v.Image, Live: v.Live, Moved: isMoved(v),
			SnapshotReady: v.Step != stepSnapshot, Cut: v.Step != stepSnapshot || v.Taken != nil,
		}
		if v.Status == api.MigrationStatusFailed {
			volume.Failed = v.Reason
		}
		volumes = append(volumes, volume)
	}
	return volumes
}

func (x *run) observeTarget(ctx context.Context) error {
	if x.target == nil {
		return nil // Next waits for the pair.
	}
	status, err := x.target.Status(ctx, x.round())
	if errors.Is(err, migrate.ErrUnknownRound) {
		x.observed.Begun = false
		return nil
	}
	if err != nil {
		return fmt.Errorf("ask the target how round %s fares: %w", x.m.Status.Round, err)
	}
	x.observed.Target = &status
	x.observed.AwaitStart = x.awaitStart() && status.FirstReady.IsZero()
	return nil
}

func (x *run) round() migrate.RoundRef {
	return migrate.RoundRef{Application: x.application(), Round: x.m.Status.Round, Namespaces: x.namespaces()}
}

// application is the same for every Migration that brings the same standby forward.
func (x *run) application() string {
	if x.m.Status.Application != "" {
		return x.m.Status.Application
	}
	return applicationOf(x.m)
}
