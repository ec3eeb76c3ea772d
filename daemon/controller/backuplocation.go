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
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
)

// +kubebuilder:rbac:groups=godwit.io,resources=backuplocations,verbs=get;list;watch
// +kubebuilder:rbac:groups=godwit.io,resources=backuplocations/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// BackupLocations checks that object stores can be used, again and again.
type BackupLocations struct {
	Client  client.Client
	Locator Locator
	Opener  snapshot.Opener
	Events  Events
	Now     func() time.Time
}

// locationsAtOnce are looked at side by side, so that a store that does not answer keeps no
// other location waiting.
const locationsAtOnce = 4

// SetupWithManager registers the reconciler.
func (r *BackupLocations) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&api.BackupLocation{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: locationsAtOnce}).
		Complete(r)
}

// Reconcile probes one location and says in its status what came of it.
func (r *BackupLocations) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var b api.BackupLocation
	if err := r.Client.Get(ctx, req.NamespacedName, &b); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	traits, problem := r.probe(ctx, req.NamespacedName)
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	ready := readyOf(traits, problem)
	before := b.DeepCopy()
	changed := r.note(&b, ready)
	r.noteTraits(&b, traits, problem)
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

func (r *BackupLocations) probe(ctx context.Context, name types.NamespacedName) (snapshot.StoreTraits, error) {
	loc, err := r.Locator.Location(ctx, name)
	if err != nil {
		return snapshot.StoreTraits{}, err
	}
	return r.Opener.Probe(ctx, loc)
}

func readyOf(traits snapshot.StoreTraits, problem error) metav1.Condition {
	ready := metav1.Condition{Type: api.ConditionReady, Status: metav1.ConditionTrue, Reason: "Reachable", Message: "the store was written to and read from"}
	switch {
	case problem != nil:
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, "ProbeFailed", problem.Error()
	case traits.ReadOnly:
		ready.Reason, ready.Message = "ReadOnly", "the store can be read and not written to: enough for the target of a pair, not for the source"
	}
	return ready
}

func (r *BackupLocations) note(b *api.BackupLocation, c metav1.Condition) (changed bool) {
	c.ObservedGeneration = b.Generation
	return meta.SetStatusCondition(&b.Status.Conditions, c)
}

// noteTraits tells what guards the store has, and warns as long as a certificate
// is not checked. A store that cannot be asked keeps what it told last.
func (r *BackupLocations) noteTraits(b *api.BackupLocation, traits snapshot.StoreTraits, problem error) {
	if c := b.Location.S3Config; c != nil && c.InsecureSkipVerify {
		warning := metav1.Condition{
			Type: api.ConditionInsecure, Status: metav1.ConditionTrue, Reason: "CertificateNotChecked",
			Message: "insecureSkipVerify is set: whoever is on the way to the store can read its keys; give caBundle instead",
		}
		if r.note(b, warning) {
			r.Events.Eventf(b, nil, corev1.EventTypeWarning, warning.Reason, "Probe", "%s", warning.Message)
		}
	} else {
		meta.RemoveStatusCondition(&b.Status.Conditions, api.ConditionInsecure)
	}
	if problem != nil {
		return
	}
	r.note(b, traitCondition(api.ConditionVersioning, traits.Versioning, "what is deleted or written over is kept"))
	r.note(b, traitCondition(api.ConditionObjectLock, traits.ObjectLock, "objects can be locked against deletion"))
}

func traitCondition(kind string, t snapshot.Trait, message string) metav1.Condition {
	switch t {
	case snapshot.TraitOn:
		return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: "On", Message: message}
	case snapshot.TraitOff:
		return metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: "Off", Message: "it is off: not so that " + message}
	}
	return metav1.Condition{Type: kind, Status: metav1.ConditionUnknown, Reason: "NotTold", Message: "the store does not tell"}
}
