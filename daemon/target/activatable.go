package target

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// foreseeActivation says of a standby at rest whether its volumes could be handed over
// now. It stays as it was while a round is brought up.
//
// The volumes are claims of Godwit's own namespace until an activation, and not the
// application's. A Bound claim of the application could be mounted by any pod of its
// namespace, at any moment of an apply; nothing in Kubernetes forbids that but a
// webhook, whose absence would have to stop every pod of the cluster. The node writes
// the device raw besides, and mode and claim of a PersistentVolume cannot change: the
// application's has to be another one over the same storage, and two that are bound
// at once would let a driver stage it twice.
func (x *run) foreseeActivation(ctx context.Context) (*api.StandbyActivatable, error) {
	s := x.s
	if s.Spec.Activation != nil || !s.Spec.Stage {
		return nil, nil //nolint:nilnil // there is nothing to foresee
	}
	if s.Status.Phase != api.StandbyReady || s.Status.Round == "" || s.Status.Round != s.Spec.Round {
		return s.Status.Activatable, nil
	}
	a := &api.StandbyActivatable{Round: s.Status.Round}
	held := 0
	for i := range s.Status.Volumes {
		v := &s.Status.Volumes[i]
		if v.Leaving {
			continue
		}
		problem, err := x.heldForActivation(ctx, v)
		if err != nil {
			return nil, err
		}
		if problem != "" {
			a.Message = problem
			return a, nil
		}
		held++
	}
	a.Ready = true
	a.Message = fmt.Sprintf("%d volumes hold the round, Bound in namespace %s, and are handed over without a copy", held, x.Namespace)
	return a, nil
}

// heldForActivation says what keeps one volume from being handed over.
func (x *run) heldForActivation(ctx context.Context, v *api.StandbyVolume) (string, error) {
	var held, wanted corev1.PersistentVolumeClaim
	err := x.Live.Get(ctx, types.NamespacedName{Namespace: x.Namespace, Name: x.nameFor(v)}, &held)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Sprintf("the volume for claim %s/%s is gone: the next round makes it anew", into(v), v.Name), nil
	case err != nil:
		return "", fmt.Errorf("read standby claim %s: %w", x.nameFor(v), err)
	case held.Status.Phase != corev1.ClaimBound || !held.DeletionTimestamp.IsZero():
		return fmt.Sprintf("the volume for claim %s/%s is %s: see claim %s in namespace %s", into(v), v.Name, held.Status.Phase, held.Name, x.Namespace), nil
	}
	err = x.Live.Get(ctx, types.NamespacedName{Namespace: into(v), Name: v.Name}, &wanted)
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("read claim %s/%s: %w", into(v), v.Name, err)
	}
	return fmt.Sprintf("claim %s/%s is on this cluster already, and is not this standby's: an activation waits until it is gone", into(v), v.Name), nil
}
