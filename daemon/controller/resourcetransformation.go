package controller

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload"
)

// +kubebuilder:rbac:groups=godwit.io,resources=resourcetransformations/status,verbs=patch

// ResourceTransformations says of each whether its rules can be used, and what
// they would change in its namespace. Migrations read the rules anew.
type ResourceTransformations struct {
	Client  client.Client
	Objects workload.Cluster
	Events  Events
	Now     func() time.Time
}

// SetupWithManager registers the reconciler.
func (r *ResourceTransformations) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&api.ResourceTransformation{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(r)
}

// Reconcile tries the rules on the objects of the namespace, and changes none.
func (r *ResourceTransformations) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var t api.ResourceTransformation
	if err := r.Client.Get(ctx, req.NamespacedName, &t); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before := t.DeepCopy()
	tried, wrong, err := r.try(ctx, &t)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("try ResourceTransformation %s: %w", req, err)
	}
	t.Status = api.ResourceTransformationStatus{Status: api.TransformationReady, Resources: tried.changed, ObservedGeneration: t.Generation}
	if hidden := tellUnreadable(r.Events, &t, "Check", tried.skipped); len(hidden) > 0 {
		t.Status.Message = "not tried on what Godwit may not read here: " + strings.Join(hidden, ", ")
	}
	if wrong != nil {
		t.Status.Status, t.Status.Message = api.TransformationFailed, oneLine(wrong)
	}
	if equality.Semantic.DeepEqual(before.Status, t.Status) {
		return ctrl.Result{}, nil
	}
	if err := r.Client.Status().Patch(ctx, &t, client.MergeFrom(before)); err != nil {
		return ctrl.Result{}, fmt.Errorf("write status of ResourceTransformation %s: %w", req, err)
	}
	if wrong != nil {
		r.Events.Eventf(&t, nil, corev1.EventTypeWarning, "RulesInvalid", "Check", "%s", t.Status.Message)
	}
	return ctrl.Result{}, nil
}

func oneLine(err error) string { return strings.Join(strings.Split(err.Error(), "\n"), "; ") }

// trial is what became of rules.
type trial struct {
	changed []api.TransformedResource
	skipped []workload.Skipped
}

// try gives what the rules change; wrong is the rules' own fault.
func (r *ResourceTransformations) try(ctx context.Context, t *api.ResourceTransformation) (result trial, wrong, err error) {
	i := workload.Instructions{Transformations: []workload.Transformation{{Namespace: t.Namespace, Name: t.Name, Spec: t.Specs}}}
	if _, wrong := workload.ReadEdits(i, workload.Local{}); wrong != nil {
		return result, wrong, nil
	}
	found, err := workload.Collect(ctx, r.Objects, workload.Selection{Namespaces: []string{t.Namespace}, IncludeNetworkPolicyWithCIDR: true})
	if err != nil {
		return result, nil, err
	}
	result.skipped = found.Skipped
	out, wrong := workload.Transform(found.Objects, workload.TransformOptions{
		Instructions: i, MigrationName: t.Name, MigrationNamespace: t.Namespace, Time: r.Now(),
	})
	for _, o := range out.Objects {
		if len(o.By) == 0 {
			continue
		}
		resource := api.TransformedResource{
			Name: o.From.Name, Namespace: o.From.Namespace, Group: o.From.Group, Version: o.From.Version, Kind: o.From.Kind,
			Status: api.TransformationReady, Reason: "changed by " + strings.Join(o.By, ", "),
		}
		if resource.Group == "" {
			resource.Group = "core"
		}
		result.changed = append(result.changed, resource)
	}
	return result, wrong, nil
}
