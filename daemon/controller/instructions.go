package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/workload"
)

// +kubebuilder:rbac:groups=godwit.io,resources=resourcetransformations;applicationregistrations,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get

// largestPlan keeps a Migration below what the API server takes.
const largestPlan = 900 << 10

// instructions are what the Migration, and what it names, says about its objects.
// What is wrong with the rules is found here, before anything is done.
func (x *run) instructions(ctx context.Context) (workload.Instructions, error) {
	s := x.m.Spec
	i := workload.Instructions{
		StartApplications: isTrue(s.StartApplications, false),
		Namespaces:        s.NamespaceMapping, StorageClasses: s.StorageClassMapping,
		RewriteServiceNames: isTrue(s.RewriteServiceNames, false),
		SkipServiceUpdate:   isTrue(s.SkipServiceUpdate, false),
		Conflicts:           workload.Conflicts{Resolution: s.ConflictResolution, ByKind: s.ConflictResolutionByKind},
		Forget:              !isTrue(s.PreserveResourcesOnDeletion, true),
	}
	if isTrue(s.PurgeDeletedResources, false) {
		i.Purge = x.namespaces()
	}
	for _, o := range s.Overrides {
		if len(o.ClusterPairs) == 0 || slices.Contains(o.ClusterPairs, s.ClusterPair) {
			i.Overrides = append(i.Overrides, o)
		}
	}
	var err error
	if i.Transformations, err = x.transformations(ctx); err != nil {
		return i, err
	}
	if i.Modifiers, err = x.modifiers(ctx); err != nil {
		return i, err
	}
	var registrations api.ApplicationRegistrationList
	if err := x.Client.List(ctx, &registrations); err != nil {
		return i, fmt.Errorf("list ApplicationRegistrations: %w", err)
	}
	for _, r := range registrations.Items {
		i.Registrations = append(i.Registrations, r.Resources...)
	}
	if _, err := workload.ReadEdits(i, workload.Local{}); err != nil {
		return i, final("RulesInvalid", "%s", oneLine(err))
	}
	return i, nil
}

// transformations reads each ResourceTransformation in every namespace that moves,
// as stork does.
func (x *run) transformations(ctx context.Context) ([]workload.Transformation, error) {
	var out []workload.Transformation
	for _, name := range x.m.Spec.TransformSpecs {
		for _, namespace := range x.namespaces() {
			var t api.ResourceTransformation
			err := x.Client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &t)
			if apierrors.IsNotFound(err) {
				return nil, final("TransformationNotFound", "ResourceTransformation %s is not in namespace %s: spec.transformSpecs must be in every namespace that moves: create it there, or leave it out", name, namespace)
			}
			if err != nil {
				return nil, fmt.Errorf("read ResourceTransformation %s/%s: %w", namespace, name, err)
			}
			out = append(out, workload.Transformation{Namespace: namespace, Name: name, Spec: t.Specs})
		}
	}
	return out, nil
}

// modifiers reads the ConfigMaps of spec.resourceModifiers, every key of each.
func (x *run) modifiers(ctx context.Context) ([]workload.Document, error) {
	resource := x.Objects.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(x.m.Namespace)
	var out []workload.Document
	for _, name := range x.m.Spec.ResourceModifiers {
		cm, err := resource.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, final("ModifierNotFound", "ConfigMap %s/%s does not exist: create it, or correct spec.resourceModifiers", x.m.Namespace, name)
		}
		if err != nil {
			return nil, fmt.Errorf("read ConfigMap %s/%s: %w", x.m.Namespace, name, err)
		}
		data, _, err := unstructured.NestedStringMap(cm.Object, "data")
		if err != nil || len(data) == 0 {
			return nil, final("ModifierInvalid", "ConfigMap %s/%s has no data: put the rules under a key", x.m.Namespace, name)
		}
		keys := make([]string, 0, len(data))
		for key := range data {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			out = append(out, workload.Document{Origin: fmt.Sprintf("ConfigMap %s/%s key %s", x.m.Namespace, name, key), Text: data[key]})
		}
	}
	return out, nil
}

// gathered is the application's objects with what is to be done with them.
type gathered struct {
	instructions workload.Instructions
	objects      []unstructured.Unstructured
	skipped      []workload.Skipped
	// hidden are those of skipped that this cluster does not let Godwit read.
	hidden []string
}

func (x *run) gather(ctx context.Context) (gathered, error) {
	var g gathered
	var err error
	if g.instructions, err = x.instructions(ctx); err != nil {
		return g, err
	}
	s := x.m.Spec
	found, err := workload.Collect(ctx, x.Objects, workload.Selection{
		Namespaces: x.namespaces(), Selectors: s.Selectors, ExcludeSelectors: s.ExcludeSelectors,
		ExcludeResourceTypes: s.ExcludeResourceTypes, IncludeOptionalResourceTypes: s.IncludeOptionalResourceTypes,
		IncludeNetworkPolicyWithCIDR: isTrue(s.IncludeNetworkPolicyWithCIDR, false),
		IgnoreOwnerReferencesCheck:   isTrue(s.IgnoreOwnerReferencesCheck, false),
		ResourceSelectors:            s.ResourceSelectors,
		ClusterScoped:                x.bringsClusterScoped(),
		Versions:                     x.m.Status.ReadVersions,
	})
	if err != nil {
		return g, fmt.Errorf("collect objects: %w", err)
	}
	g.skipped, g.hidden = found.Skipped, tellUnreadable(x.Events, x.m, "Migrate", found.Skipped)
	g.objects = slices.DeleteFunc(found.Objects, func(o unstructured.Unstructured) bool { return !x.wanted(o) })
	return g, nil
}

// gatherAsServed reads the objects in versions that the target serves.
func (x *run) gatherAsServed(ctx context.Context) (gathered, error) {
	g, err := x.gather(ctx)
	if err != nil {
		return g, err
	}
	again, err := x.chooseVersions(ctx, g.objects)
	if err != nil || !again {
		return g, err
	}
	return x.gather(ctx)
}

// collect gives the round's objects, packed with what is to be done with them.
func (x *run) collect(ctx context.Context) ([]byte, error) {
	g, err := x.gather(ctx)
	if err != nil {
		return nil, err
	}
	return workload.Pack(g.instructions, g.objects)
}

// tellUnreadable tells, as events of an object, what this cluster does not let Godwit
// read, and names it.
func tellUnreadable(events Events, about runtime.Object, action string, skipped []workload.Skipped) []string {
	var all []string
	for _, s := range skipped {
		if s.Rule == workload.RuleForbidden {
			events.Eventf(about, nil, corev1.EventTypeWarning, "Unreadable", action, "%s is left out: %s", s.Ref, s.Reason)
			all = append(all, s.Ref.String())
		}
	}
	return all
}

// askTarget asks the target what would fail. The first question is about the
// volumes too; a large application's objects take several.
func (x *run) askTarget(ctx context.Context) error {
	claims, err := x.targetClaims(ctx)
	if err != nil {
		return err
	}
	hooks, err := x.targetHooks(ctx)
	if err != nil {
		return err
	}
	g, err := x.gatherAsServed(ctx)
	if err != nil {
		return err
	}
	asks, err := x.asks(g, claims)
	if err != nil {
		return err
	}
	plan := workload.Plan{LeftOut: g.skipped}
	var problems []string
	reason := ""
	for i, ask := range asks {
		p := migrate.Preflight{Application: x.application(), Namespaces: x.namespaces(), Objects: ask.objects, Volumes: ask.volumes, Details: isTrue(x.m.Spec.DryRun, false)}
		if i == 0 {
			p.Hooks = hooks
		}
		forecast, err := ask.target.Preflight(ctx, p)
		if err != nil {
			return fmt.Errorf("ask the target what would fail: %w", err)
		}
		for _, problem := range append(forecast.Problems, x.lostUsers(forecast)...) {
			if reason == "" {
				reason = problem.Reason
			}
			if !slices.Contains(problems, problem.Message) {
				problems = append(problems, problem.Message)
			}
		}
		if err := addDetails(&plan, forecast.Details); err != nil {
			return err
		}
	}
	if isTrue(x.m.Spec.DryRun, false) {
		if err := x.showPlan(plan, problems); err != nil {
			return err
		}
	}
	if len(problems) > 0 {
		return final(reason, "the target would refuse: %s", strings.Join(problems, "; "))
	}
	x.m.Status.Status = api.MigrationStatusInProgress
	x.markChecked(g.hidden)
	return nil
}

// markChecked tells that nothing is in the way, and what does not come along.
func (x *run) markChecked(hidden []string) {
	message := "the target can take the application"
	if len(hidden) > 0 {
		message += "; left out, since Godwit may not read it here: " + strings.Join(hidden, ", ")
	}
	x.mark(conditionChecked, "NoProblems", message)
}

// showPlan puts the plan into the status. Of one that is too large the single
// changes are left out.
func (x *run) showPlan(plan workload.Plan, problems []string) error {
	shown := &api.MigrationPlan{Problems: problems, LeftOut: int64(len(plan.LeftOut))}
	for _, o := range plan.Objects {
		switch o.Action {
		case workload.Created:
			shown.Create++
		case workload.Updated, workload.Recreated:
			shown.Update++
		case workload.Unchanged:
			shown.Unchanged++
		case workload.Kept:
			shown.Skip++
		case workload.Refused:
			shown.LeftOut++
		}
	}
	for _, lighter := range []func(){
		func() {},
		func() {
			for i := range plan.Objects {
				plan.Objects[i].Changes = nil
			}
			plan.Warnings = append(plan.Warnings, "the plan is too large to show the changes of single fields")
		},
		func() { plan.LeftOut = nil },
	} {
		lighter()
		data, err := json.Marshal(plan)
		if err == nil {
			shown.Details, err = workload.Compress(data)
		}
		if err != nil {
			return fmt.Errorf("write the plan: %w", err)
		}
		if len(shown.Details) <= largestPlan {
			x.m.Status.Plan = shown
			return nil
		}
	}
	return final("PlanTooLarge", "the plan has more objects than a Migration's status can hold: plan fewer namespaces at once")
}

// endPlan ends a dry run, which is what it was for.
func (x *run) endPlan(context.Context) error {
	now := metav1.NewTime(x.Now())
	s := &x.m.Status
	s.Stage, s.Status, s.FinishTimestamp = api.MigrationStageFinal, api.MigrationStatusSuccessful, &now
	x.ready(metav1.ConditionTrue, "Planned", "this was a dry run: nothing was done; see status.plan, or \"godwitctl plan\"")
	return nil
}

// namespaces that move: those that were there when the round began.
func (x *run) namespaces() []string {
	if len(x.m.Status.Namespaces) > 0 {
		return x.m.Status.Namespaces
	}
	return x.m.Spec.Namespaces
}

// wantedNamespaces are those named and those with any of the labels, as in stork.
func (x *run) wantedNamespaces(ctx context.Context) ([]string, error) {
	names := slices.Clone(x.m.Spec.Namespaces)
	for key, value := range x.m.Spec.NamespaceSelectors {
		var found corev1.NamespaceList
		if err := x.Client.List(ctx, &found, client.MatchingLabels{key: value}); err != nil {
			return nil, fmt.Errorf("list namespaces with label %s=%s: %w", key, value, err)
		}
		for _, n := range found.Items {
			if !slices.Contains(names, n.Name) {
				names = append(names, n.Name)
			}
		}
	}
	slices.Sort(names[len(x.m.Spec.Namespaces):])
	return names, nil
}
