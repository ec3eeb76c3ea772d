package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
)

// +kubebuilder:rbac:groups=godwit.io,resources=backuplocations,verbs=get;list;watch
// +kubebuilder:rbac:groups=godwit.io,resources=backuplocations/status,verbs=get;update;patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch;update

// BackupLocations checks that object stores can be used, again and again.
type BackupLocations struct {
	Client  client.Client
	Locator Locator
	Opener  snapshot.Opener
	Events  Events
	Now     func() time.Time
}

// SetupWithManager registers the reconciler.
func (r *BackupLocations) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&api.BackupLocation{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(r)
}

// Reconcile probes one location and says in its status what came of it.
func (r *BackupLocations) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var b api.BackupLocation
	if err := r.Client.Get(ctx, req.NamespacedName, &b); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	problem := r.probe(ctx, req.NamespacedName)
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	ready := metav1.Condition{Type: api.ConditionReady, ObservedGeneration: b.Generation}
	if problem == nil {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionTrue, "Reachable", "the store was written to and read from"
	} else {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, "ProbeFailed", problem.Error()
	}
	before := b.DeepCopy()
	changed := meta.SetStatusCondition(&b.Status.Conditions, ready)
	now := metav1.NewTime(r.Now())
	b.Status.LastChecked, b.Status.ObservedGeneration = &now, b.Generation
	if err := r.Client.Status().Patch(ctx, &b, client.MergeFrom(before)); err != nil {
		return ctrl.Result{}, fmt.Errorf("write status of BackupLocation %s: %w", req, err)
	}
	if changed && problem != nil {
		r.Events.Eventf(&b, nil, corev1.EventTypeWarning, ready.Reason, "Probe", "%s", ready.Message)
	}
	if problem != nil {
		return ctrl.Result{RequeueAfter: retryAfter(r.Now().Sub(meta.FindStatusCondition(b.Status.Conditions, ready.Type).LastTransitionTime.Time))}, nil
	}
	return ctrl.Result{RequeueAfter: backupLocationRecheck}, nil
}

// retryAfter looks again soon while somebody is still setting things up, such as
// the Secret, and seldom at what stays broken.
func retryAfter(broken time.Duration) time.Duration {
	return min(max(broken/2, backupLocationRetry), backupLocationRecheck)
}

func (r *BackupLocations) probe(ctx context.Context, name types.NamespacedName) error {
	loc, err := r.Locator.Location(ctx, name)
	if err != nil {
		return err
	}
	return r.Opener.Probe(ctx, loc)
}
