package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/hook"
	"github.com/godwit-io/godwit/daemon/migrate"
)

// Hooks runs hooks on this cluster, as package hook does.
type Hooks interface {
	Ensure(ctx context.Context, pair string, h migrate.Hook) (migrate.HookResult, error)
	Drop(ctx context.Context, pair string, round migrate.RoundRef) (bool, error)
}

// ownHooks stands for the pair's id in the names of what hooks make on the source.
const ownHooks = ""

const reasonHook = "Hook"

// observeHooks tells which hooks are open; before the Migration is admitted also
// whether all can be run.
func (x *run) observeHooks(ctx context.Context) error {
	o := &x.observed
	for _, h := range x.hooks() {
		seen := migrate.ObservedHook{Name: h.Name, Phase: migrate.HookPhase(h.Phase)}
		if s := x.hookStatus(h.Name); s != nil {
			seen.Done = s.State == api.HookSucceeded || s.State == api.HookFailed && h.OnFailure == api.HookContinue
			if s.State == api.HookFailed && h.OnFailure != api.HookContinue {
				seen.Failed = s.Message
			}
		}
		o.Hooks = append(o.Hooks, seen)
		if o.Admitted || o.Ended || o.Deleting || o.HookProblem != "" {
			continue
		}
		_, err := x.hookOf(ctx, h)
		var f *finalError
		if errors.As(err, &f) {
			o.HookProblem = f.Error()
		} else if err != nil {
			return err
		}
	}
	return nil
}

// hooks are those that run: a stage run hands nothing over, and has no restore.
func (x *run) hooks() []api.Hook {
	if !isTrue(x.m.Spec.Stage, false) {
		return x.m.Spec.Hooks
	}
	return slices.DeleteFunc(slices.Clone(x.m.Spec.Hooks), func(h api.Hook) bool {
		return h.Phase == api.HookPreRestore || h.Phase == api.HookPostRestore
	})
}

func (x *run) hookStatus(name string) *api.HookStatus {
	i := slices.IndexFunc(x.m.Status.Hooks, func(s api.HookStatus) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &x.m.Status.Hooks[i]
}

func clusterOf(h api.Hook) api.HookCluster {
	restores := h.Phase == api.HookPreRestore || h.Phase == api.HookPostRestore
	switch {
	case h.Cluster != "":
		return h.Cluster
	case restores:
		return api.HookTarget
	}
	return api.HookSource
}

// hookOf is the hook as it is run. A hook that cannot be run is a final error.
func (x *run) hookOf(ctx context.Context, h api.Hook) (migrate.Hook, error) {
	out := migrate.Hook{
		RoundRef: x.round(), Name: h.Name, Phase: migrate.HookPhase(h.Phase),
		ServiceAccount: cmp.Or(h.ServiceAccountName, "default"), Image: h.Image, Command: h.Command, Args: h.Args,
		BackoffLimit: 6, Deadline: time.Hour,
	}
	if s := h.SecurityContext; s != nil {
		out.User = &migrate.HookUser{User: s.RunAsUser, Group: s.RunAsGroup, FSGroup: s.FSGroup}
	}
	if h.BackoffLimit != nil {
		out.BackoffLimit = *h.BackoffLimit
	}
	if h.Deadline != nil {
		out.Deadline = h.Deadline.Duration
	}
	if out.Deadline < time.Second {
		return out, final("HookNotUsable", "hook %s: its deadline of %v is less than a second", h.Name, out.Deadline)
	}
	var err error
	if out.Namespace, err = x.hookNamespace(h); err != nil || h.Playbook == nil {
		return out, err
	}
	key := cmp.Or(h.Playbook.Key, "playbook.yml")
	if len(out.Command) == 0 {
		out.Command = []string{"ansible-playbook", migrate.HookFolder + "/" + key}
	}
	var config corev1.ConfigMap
	at := types.NamespacedName{Namespace: x.m.Namespace, Name: h.Playbook.ConfigMap}
	if err := x.Client.Get(ctx, at, &config); err != nil && !apierrors.IsNotFound(err) {
		return out, fmt.Errorf("read ConfigMap %s: %w", at, err)
	}
	if _, there := config.Data[key]; !there {
		return out, final("HookNotUsable", "hook %s: there is no ConfigMap %s with the key %s: create it on the source, or correct spec.hooks[].playbook", h.Name, at, key)
	}
	out.Files = config.Data
	return out, nil
}

// targetHooks are those that the target is to run.
func (x *run) targetHooks(ctx context.Context) ([]migrate.Hook, error) {
	var all []migrate.Hook
	for _, h := range x.hooks() {
		if clusterOf(h) != api.HookTarget {
			continue
		}
		out, err := x.hookOf(ctx, h)
		if err != nil {
			return nil, err
		}
		all = append(all, out)
	}
	return all, nil
}

// lostUsers names the hooks that a target which knows no users would run as another:
// those that run there, and those of a schedule, which it copies for the way back.
func (x *run) lostUsers(of migrate.Forecast) []migrate.Problem {
	if of.HookUsers {
		return nil
	}
	var lost []migrate.Problem
	owner := metav1.GetControllerOf(x.m)
	copied := owner != nil && owner.Kind == "MigrationSchedule"
	for _, h := range x.m.Spec.Hooks {
		if h.SecurityContext != nil && (copied || clusterOf(h) == api.HookTarget) {
			lost = append(lost, migrate.Problem{Reason: "HookRefused", Message: fmt.Sprintf(
				"hook %s: Godwit on the target is of an older version, which knows no users of hooks: upgrade it there, or leave out spec.hooks[].securityContext", h.Name)})
		}
	}
	return lost
}

// hookNamespace keeps hooks on the source to the namespaces of the Migration, as
// all else that it touches: whoever may make one in a namespace has no say in others.
func (x *run) hookNamespace(h api.Hook) (string, error) {
	own := x.m.Namespace
	if all := x.namespaces(); own == x.Namespace && len(all) > 0 {
		own = all[0]
	}
	if clusterOf(h) == api.HookTarget {
		return cmp.Or(h.Namespace, x.m.Spec.NamespaceMapping[own], own), nil
	}
	if x.Hooks == nil {
		return "", final("HookNotUsable", "hook %s: hooks are not enabled on this cluster: install Godwit with --set hooks.enabled=true, or leave the hook out", h.Name)
	}
	namespace := cmp.Or(h.Namespace, own)
	covered := x.m.Namespace == x.AdminNamespace || namespace == x.m.Namespace
	if namespace == x.Namespace || !covered {
		return "", final("HookNotUsable", "hook %s may not run in namespace %s of the source: name the Migration's own", h.Name, namespace)
	}
	return namespace, nil
}

// runHook takes one hook further. That it is to run is written down first.
func (x *run) runHook(ctx context.Context, name string) error {
	hooks := x.hooks()
	spec := hooks[slices.IndexFunc(hooks, func(h api.Hook) bool { return h.Name == name })]
	h, err := x.hookOf(ctx, spec)
	if err != nil {
		return err
	}
	s := x.hookStatus(name)
	if s == nil {
		x.m.Status.Hooks = append(x.m.Status.Hooks, api.HookStatus{
			Name: name, Phase: spec.Phase, Cluster: clusterOf(spec), Namespace: h.Namespace, State: api.HookPending,
		})
		x.working(reasonHook, fmt.Sprintf("hook %s (%s) runs on the %s", name, spec.Phase, clusterOf(spec)))
		return nil
	}
	if err := x.hookStillOpen(ctx, name); err != nil {
		return err
	}
	h.Started = s.Started != nil
	result, err := x.ensureHook(ctx, s.Cluster, h)
	if errors.Is(err, hook.ErrUnusable) {
		result, err = migrate.HookResult{Done: true, Message: err.Error()}, nil
	}
	if err != nil {
		return fmt.Errorf("hook %s: %w", name, err)
	}
	x.showHook(s, spec, result)
	return nil
}

// hookStillOpen looks past the cache: a hook whose end was recorded a moment ago,
// and whose Job may be gone, must not run again.
func (x *run) hookStillOpen(ctx context.Context, name string) error {
	var live api.Migration
	if err := x.Live.Get(ctx, client.ObjectKeyFromObject(x.m), &live); err != nil {
		return fmt.Errorf("read Migration %s/%s: %w", x.m.Namespace, x.m.Name, err)
	}
	i := slices.IndexFunc(live.Status.Hooks, func(s api.HookStatus) bool { return s.Name == name })
	ended := i >= 0 && live.Status.Hooks[i].Finished != nil || live.Status.Stage == api.MigrationStageFinal
	if live.UID != x.m.UID || ended {
		return fmt.Errorf("hook %s ended a moment ago: looking again", name)
	}
	return nil
}

func (x *run) ensureHook(ctx context.Context, on api.HookCluster, h migrate.Hook) (migrate.HookResult, error) {
	if on == api.HookTarget {
		return x.target.Hook(ctx, h)
	}
	return x.Hooks.Ensure(ctx, ownHooks, h)
}

func (x *run) showHook(s *api.HookStatus, spec api.Hook, r migrate.HookResult) {
	now := metav1.NewTime(x.Now())
	if s.Started == nil {
		s.Started = &now
	}
	s.Job, s.Message, s.State = cmp.Or(r.Job, s.Job), r.Message, api.HookRunning
	s.Log = cmp.Or(r.Log, s.Log)
	if !r.Done {
		x.working(reasonHook, fmt.Sprintf("hook %s (%s) runs on the %s: %s", s.Name, s.Phase, s.Cluster, r.Message))
		return
	}
	s.Finished, s.State = &now, api.HookFailed
	if r.OK {
		s.State, s.Message = api.HookSucceeded, ""
		x.Events.Eventf(x.m, nil, corev1.EventTypeNormal, "HookSucceeded", "Hook", "hook %s (%s) succeeded on the %s", s.Name, s.Phase, s.Cluster)
		return
	}
	x.warn("HookFailed", "hook %s (%s) failed on the %s, and the Migration is to %s: %s", s.Name, s.Phase, s.Cluster, cmp.Or(spec.OnFailure, api.HookAbort), r.Message)
}

// hookFailedLate names a hook that failed after the application was handed over,
// and with which the Migration cannot be called a success.
func (x *run) hookFailedLate() string {
	for _, h := range x.observed.Hooks {
		if h.Phase == migrate.PostRestore && h.Failed != "" {
			return fmt.Sprintf("hook %s (%s) failed: %s", h.Name, h.Phase, h.Failed)
		}
	}
	return ""
}

// dropHooks takes away the Jobs of the hooks on both clusters; their logs are in
// the status. It reports whether nothing is left, or nobody is there to ask.
func (x *run) dropHooks(ctx context.Context) (bool, error) {
	done, onTarget := true, false
	for _, s := range x.m.Status.Hooks {
		onTarget = onTarget || s.Cluster == api.HookTarget
	}
	if len(x.m.Status.Hooks) > 0 && x.Hooks != nil {
		var err error
		if done, err = x.Hooks.Drop(ctx, ownHooks, x.round()); err != nil {
			return false, err
		}
	}
	if !onTarget {
		return done, nil
	}
	dropped, err := x.dropTargetHooks(ctx)
	if err != nil && x.endedFor(forgetPatience) {
		x.warn("HooksNotCleared", "the target could not be asked to remove the Jobs of the hooks of round %s (%v): look there for Jobs with the label %s", x.m.Status.Round, err, hook.LabelRound)
		return done, nil
	}
	// A target that cannot be asked is asked again, and holds up nothing else.
	return done && dropped, nil //nolint:nilerr // as said
}

func (x *run) dropTargetHooks(ctx context.Context) (bool, error) {
	if x.target == nil {
		return false, errors.New("its pair is not ready")
	}
	result, err := x.target.Hook(ctx, migrate.Hook{RoundRef: x.round(), Drop: true})
	return err == nil && result.Done, err
}

// endedFor is true for a Migration that ended, or was to be deleted, that long ago.
func (x *run) endedFor(patience time.Duration) bool {
	since := x.m.DeletionTimestamp
	if since == nil {
		since = x.m.Status.FinishTimestamp
	}
	return since != nil && x.Now().Sub(since.Time) > patience
}
