package sdk

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/openstorage"
)

// labelGroup on claims makes those of one value a group.
const labelGroup = "godwit.io/volume-group"

// choose says in the Migration which claims it moves. Tasks of different volumes
// are applications of their own, so that they go side by side.
func (b Tasks) choose(ctx context.Context, m *api.Migration, o openstorage.Operation, scope pairing.Scope) error {
	others := api.VolumeRule{Name: api.EveryClaim, Action: api.VolumeSkip}
	switch {
	case o.VolumeID != "":
		v, err := b.volume(ctx, o.VolumeID)
		if err != nil {
			return err
		}
		claim := v.Spec.ClaimRef
		if err := b.mayMove(scope, claim.Namespace); err != nil {
			return fmt.Errorf("volume %s: %w", o.VolumeID, err)
		}
		m.Annotations[annotationVolume] = v.Name
		m.Spec.Namespaces, m.Spec.Application = []string{claim.Namespace}, objectName("volume", v.Name)
		m.Spec.Volumes = []api.VolumeRule{{Name: claim.Namespace + "/" + claim.Name, Action: api.VolumeCopy}, others}
		return nil
	case o.GroupID != "":
		namespaces, err := b.group(ctx, o.GroupID, scope)
		m.Spec.Namespaces, m.Spec.Application = namespaces, objectName("group", o.GroupID)
		m.Spec.Volumes = []api.VolumeRule{{Labels: map[string]string{labelGroup: o.GroupID}, Action: api.VolumeCopy}, others}
		return err
	}
	namespaces, err := b.covered(ctx, scope)
	m.Spec.Namespaces = namespaces
	return err
}

// volume finds a bound volume by its name or by its storage's handle.
func (b Tasks) volume(ctx context.Context, id string) (corev1.PersistentVolume, error) {
	var v corev1.PersistentVolume
	err := b.Client.Get(ctx, client.ObjectKey{Name: id}, &v)
	// A handle need not be a name that the API server takes.
	if apierrors.IsNotFound(err) || apierrors.IsBadRequest(err) || apierrors.IsInvalid(err) || strings.Contains(id, "/") {
		v, err = b.byHandle(ctx, id)
	}
	if err != nil {
		return v, fmt.Errorf("volume %q: %w", id, err)
	}
	if v.Spec.ClaimRef == nil {
		return v, fmt.Errorf("%w: volume %q is not bound to a claim, and what moves are claims' volumes", openstorage.ErrRequest, id)
	}
	return v, nil
}

func (b Tasks) byHandle(ctx context.Context, handle string) (corev1.PersistentVolume, error) {
	var all corev1.PersistentVolumeList
	if err := b.Client.List(ctx, &all); err != nil {
		return corev1.PersistentVolume{}, fmt.Errorf("list volumes: %w", err)
	}
	found := slices.DeleteFunc(all.Items, func(v corev1.PersistentVolume) bool {
		return v.Spec.CSI == nil || v.Spec.CSI.VolumeHandle != handle
	})
	switch len(found) {
	case 0:
		return corev1.PersistentVolume{}, openstorage.ErrNotFound
	case 1:
		return found[0], nil
	}
	return corev1.PersistentVolume{}, fmt.Errorf("%w: %d volumes have this handle: give the PersistentVolume's name", openstorage.ErrRequest, len(found))
}

// mayMove says why a namespace's volumes cannot move by this pair.
func (b Tasks) mayMove(scope pairing.Scope, namespace string) error {
	if namespace == b.Namespace || strings.HasPrefix(namespace, "kube-") {
		return fmt.Errorf("%w: namespace %s is not an application's", openstorage.ErrRequest, namespace)
	}
	if err := scope.Covers(namespace); err != nil {
		return fmt.Errorf("%w: %w", openstorage.ErrRequest, err)
	}
	return nil
}

// group lists the namespaces of the group's claims. All of a group moves or none:
// half of it is of no moment in time.
func (b Tasks) group(ctx context.Context, id string, scope pairing.Scope) ([]string, error) {
	if said := validation.IsValidLabelValue(id); len(said) > 0 {
		return nil, fmt.Errorf("%w: group id %q is no value of a label: %s", openstorage.ErrRequest, id, strings.Join(said, ", "))
	}
	var claims corev1.PersistentVolumeClaimList
	if err := b.Client.List(ctx, &claims, client.MatchingLabels{labelGroup: id}); err != nil {
		return nil, fmt.Errorf("list claims: %w", err)
	}
	var namespaces []string
	for _, c := range claims.Items {
		if err := b.mayMove(scope, c.Namespace); err != nil {
			return nil, fmt.Errorf("claim %s/%s of group %q: %w", c.Namespace, c.Name, id, err)
		}
		namespaces = append(namespaces, c.Namespace)
	}
	if len(namespaces) == 0 {
		return nil, fmt.Errorf("claims labelled %s=%s: %w", labelGroup, id, openstorage.ErrNotFound)
	}
	slices.Sort(namespaces)
	return slices.Compact(namespaces), nil
}

// covered lists the namespaces that the pair covers, of those that hold claims.
func (b Tasks) covered(ctx context.Context, scope pairing.Scope) ([]string, error) {
	var claims corev1.PersistentVolumeClaimList
	if err := b.Client.List(ctx, &claims); err != nil {
		return nil, fmt.Errorf("list claims: %w", err)
	}
	var namespaces []string
	for _, c := range claims.Items {
		if b.mayMove(scope, c.Namespace) == nil {
			namespaces = append(namespaces, c.Namespace)
		}
	}
	if len(namespaces) == 0 {
		return nil, fmt.Errorf("%w: no namespace that the pair covers has a claim", openstorage.ErrRequest)
	}
	slices.Sort(namespaces)
	return slices.Compact(namespaces), nil
}
