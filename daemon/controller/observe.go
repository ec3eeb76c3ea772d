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
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// The conditions that remember how far a Migration came.
const (
	conditionAdmitted = "Admitted"
	conditionChecked  = "TargetChecked"
	conditionSealed   = "Sealed"
	conditionBegun    = "Begun"
	conditionReleased = "Released"
	conditionCleared  = "TargetCleared"
)

// claim is one volume of the source with how it will be read.
type claim struct {
	pvc        corev1.PersistentVolumeClaim
	size       int64
	capability csi.Capability
	choice     migrate.Choice
	refused    string
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
	o.Unserved = unserved(x.m.Spec)
	o.OwnNamespace, o.AdminNamespace = x.m.Namespace, x.AdminNamespace
	o.SkipMissingNamespaces = isTrue(x.m.Spec.SkipDeletedNamespaces, true)
	o.IncludeVolumes = isTrue(x.m.Spec.IncludeVolumes, true)
	o.Admitted, o.AskedTarget = x.has(conditionAdmitted), x.has(conditionChecked)
	o.Sealed, o.Begun = x.has(conditionSealed), x.has(conditionBegun)
	o.Ended = x.m.Status.Stage == api.MigrationStageFinal
	o.Failed = x.m.Status.Status == api.MigrationStatusFailed
	o.Released, o.Forgotten = x.has(conditionReleased), !o.Begun || x.has(conditionCleared)
	if err := x.observePair(ctx); err != nil {
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

// unserved names fields that this version would silently ignore otherwise.
func unserved(s api.MigrationSpec) []string {
	var set []string
	for name, is := range map[string]bool{
		"spec.adminClusterPair": s.AdminClusterPair != "", "spec.preExecRule": s.PreExecRule != "",
		"spec.postExecRule": s.PostExecRule != "", "spec.transformSpecs": len(s.TransformSpecs) > 0,
		"spec.namespaceSelectors": len(s.NamespaceSelectors) > 0, "spec.purgeDeletedResources": isTrue(s.PurgeDeletedResources, false),
	} {
		if is {
			set = append(set, name)
		}
	}
	slices.Sort(set)
	return set
}

func (x *run) observePair(ctx context.Context) error {
	o := &x.observed
	o.PairName = x.m.Spec.ClusterPair
	var p api.ClusterPair
	err := x.Client.Get(ctx, types.NamespacedName{Namespace: x.m.Namespace, Name: o.PairName}, &p)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read ClusterPair %s/%s: %w", x.m.Namespace, o.PairName, err)
	}
	x.pair = &p
	o.Pair.Found = p.DeletionTimestamp.IsZero()
	ready := meta.FindStatusCondition(p.Status.Conditions, api.ConditionReady)
	switch {
	case p.Status.PairID == "" || ready == nil:
		o.Pair.Message = "it has not been paired yet"
		if ready != nil {
			o.Pair.Message = ready.Message
		}
		return nil
	case ready.Status != metav1.ConditionTrue:
		o.Pair.Message = ready.Message
	default:
		o.Pair.Ready = true
	}
	x.peer, err = x.Peers.Get(ctx, pairing.Outgoing, p.Status.PairID)
	if errors.Is(err, pairing.ErrNotFound) {
		o.Pair.Ready, o.Pair.Message = false, "its keys are gone: delete it and pair again"
		return nil
	}
	if err != nil {
		return fmt.Errorf("read pair %s: %w", p.Status.PairID, err)
	}
	if !o.Pair.Ready {
		return nil
	}
	x.target, err = x.Remote.Target(ctx, x.peer)
	return err
}

// observeCandidates looks at namespaces and claims before anything is recorded.
func (x *run) observeCandidates(ctx context.Context) error {
	for _, name := range x.m.Spec.Namespaces {
		var ns corev1.Namespace
		err := x.Client.Get(ctx, types.NamespacedName{Name: name}, &ns)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("read namespace %s: %w", name, err)
		}
		exists := err == nil && ns.DeletionTimestamp.IsZero()
		x.observed.Namespaces = append(x.observed.Namespaces, migrate.Namespace{Name: name, Exists: exists})
		if !exists || !x.observed.IncludeVolumes {
			continue
		}
		if err := x.observeClaims(ctx, name); err != nil {
			return err
		}
	}
	return nil
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
	for _, key := range []string{"godwit.io/skip-resource", "stork.libopenstorage.org/skip-resource"} {
		if pvc.Annotations[key] == "true" {
			return true
		}
	}
	return !pvc.DeletionTimestamp.IsZero()
}

func (x *run) examine(ctx context.Context, pvc corev1.PersistentVolumeClaim) (claim, error) {
	c := claim{pvc: pvc}
	if pvc.Status.Phase != corev1.ClaimBound {
		c.refused = fmt.Sprintf("it is %s, so it holds no data: bind it, delete it, or leave it out with spec.excludeSelectors", pvc.Status.Phase)
		return c, nil
	}
	size := pvc.Status.Capacity[corev1.ResourceStorage]
	c.size = size.Value()
	var err error
	if c.capability, err = x.Snapshots.Capability(ctx, &pvc); err != nil {
		return c, fmt.Errorf("claim %s/%s: %w", pvc.Namespace, pvc.Name, err)
	}
	c.choice = migrate.ChooseMethod(migrate.Method(x.m.Spec.Method), migrate.VolumeFacts{
		BlockMode:    isBlock(pvc),
		Shared:       slices.Contains(pvc.Spec.AccessModes, corev1.ReadWriteMany) && !isBlock(pvc),
		HasSnapshots: c.capability.SnapshotClass != "",
		NoSnapshots:  c.capability.Reason,
	})
	c.refused = c.choice.Refused
	return c, nil
}

func isBlock(pvc corev1.PersistentVolumeClaim) bool {
	return pvc.Spec.VolumeMode != nil && *pvc.Spec.VolumeMode == corev1.PersistentVolumeBlock
}

func volumesOf(infos []api.MigrationVolumeInfo) []migrate.Volume {
	volumes := make([]migrate.Volume, 0, len(infos))
	for _, v := range infos {
		volume := migrate.Volume{
			Namespace: v.Namespace, Name: v.PersistentVolumeClaim, Image: v.Image,
			SnapshotReady: v.Step != stepSnapshot,
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
	return nil
}

func (x *run) round() migrate.RoundRef {
	return migrate.RoundRef{Application: x.application(), Round: x.m.Status.Round, Namespaces: x.m.Spec.Namespaces}
}

func (x *run) application() string { return x.m.Namespace + "/" + x.m.Name }
