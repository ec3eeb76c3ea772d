package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/snapshot/csi"
)

// +kubebuilder:rbac:groups=apps,resources=deployments;statefulsets;daemonsets;replicasets,verbs=update
// +kubebuilder:rbac:groups=batch,resources=cronjobs;jobs,verbs=update
// +kubebuilder:rbac:groups="",resources=replicationcontrollers,verbs=update
// +kubebuilder:rbac:groups=apps.openshift.io,resources=deploymentconfigs,verbs=update
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list

// startPatience is how long the target's first pod is waited for, to measure the
// downtime: an application may need any time to get ready.
const startPatience = 2 * time.Minute

// stopSource stops the application: what it stops is written down first, then
// stopped, and then its pods are waited for.
func (x *run) stopSource(ctx context.Context) error {
	s := &x.m.Status
	if !x.has(conditionStopping) {
		running, err := workload.Running(ctx, x.Objects, workload.Selection{
			Namespaces: x.namespaces(), Selectors: x.m.Spec.Selectors, ExcludeSelectors: x.m.Spec.ExcludeSelectors,
		})
		if err != nil {
			return fmt.Errorf("find what to stop: %w", err)
		}
		for _, w := range running {
			s.Quiesced = append(s.Quiesced, quiesced(w))
		}
		now := metav1.NewMicroTime(x.Now())
		s.SourceStopped = &now
		x.mark(conditionStopping, "Stopping", fmt.Sprintf("%d workloads of the source are stopped", len(running)))
		return nil // Written down before anything is stopped.
	}
	for _, q := range s.Quiesced {
		if err := workload.Stop(ctx, x.Objects, stopped(q)); err != nil {
			return err
		}
	}
	user, users, err := x.usersOfVolumes(ctx)
	if err != nil {
		return err
	}
	if user == "" {
		user, err = x.userOfMoved(ctx, x.movedByClaim())
	}
	if err != nil {
		return err
	}
	if user != "" {
		x.users = max(users, 1) // A node that has it attached counts too.
		x.waiting("Quiescing", user)
		return nil
	}
	x.mark(conditionQuiesced, "Stopped", fmt.Sprintf("%d workloads are stopped, and no pod has a volume that moves", len(s.Quiesced)))
	return nil
}

// userOfVolumes says which pod still has a volume that moves; empty for none.
func (x *run) userOfVolumes(ctx context.Context) (string, error) {
	first, _, err := x.usersOfVolumes(ctx)
	return first, err
}

// usersOfVolumes also counts them.
func (x *run) usersOfVolumes(ctx context.Context) (first string, n int64, err error) {
	for _, namespace := range x.namespaces() {
		var pods corev1.PodList
		if err := x.Live.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
			return "", 0, fmt.Errorf("list the pods of namespace %s: %w", namespace, err)
		}
		for i := range pods.Items {
			pod := &pods.Items[i]
			claim := x.claimUsedBy(pod)
			if claim == "" {
				continue
			}
			if n++; n == 1 {
				first = useOf(pod, claim)
			}
		}
	}
	return first, n, nil
}

func useOf(pod *corev1.Pod, claim string) string {
	if metav1.GetControllerOf(pod) == nil && pod.DeletionTimestamp.IsZero() {
		return fmt.Sprintf("pod %s/%s has claim %s, and no workload that could be stopped made it: delete it, or leave out quiesce", pod.Namespace, pod.Name, claim)
	}
	return fmt.Sprintf("waiting for pod %s/%s to end, which has claim %s", pod.Namespace, pod.Name, claim)
}

func (x *run) claimUsedBy(pod *corev1.Pod) string {
	if pod.Labels[csi.LabelRole] != "" {
		return ""
	}
	return workload.ClaimOf(pod, func(namespace, claim string) bool {
		return slices.ContainsFunc(x.m.Status.Volumes, func(v api.MigrationVolumeInfo) bool {
			return v.Namespace == namespace && v.PersistentVolumeClaim == claim
		})
	})
}

// restore starts on the source what was stopped there. It reports whether all runs.
func (x *run) restore(ctx context.Context) error {
	for i := range x.m.Status.Quiesced {
		q := &x.m.Status.Quiesced[i]
		if q.Restored {
			continue
		}
		if err := workload.Resume(ctx, x.Objects, stopped(*q)); err != nil {
			return err
		}
		q.Restored = true
	}
	return nil
}

// restored is true once nothing that was stopped on the source has to be started.
func (x *run) restored() bool {
	s := x.m.Status
	if x.has(conditionElsewhere) || x.has(conditionUnclear) {
		return true
	}
	if !x.policiesBack() {
		return false
	}
	if x.leavesStopped() {
		return true
	}
	return !slices.ContainsFunc(s.Quiesced, func(q api.QuiescedWorkload) bool { return !q.Restored })
}

// leavesStopped is true for a Migration that failed and whose owner wants what it
// stopped to stay so.
func (x *run) leavesStopped() bool {
	return x.m.Status.Status == api.MigrationStatusFailed && !isTrue(x.m.Spec.RollbackOnFailure, true) && x.m.DeletionTimestamp.IsZero()
}

func quiesced(w workload.Stopped) api.QuiescedWorkload {
	return api.QuiescedWorkload{
		Group: w.Ref.Group, Version: w.Ref.Version, Kind: w.Ref.Kind, Namespace: w.Ref.Namespace, Name: w.Ref.Name,
		Replicas: w.Replicas, Suspended: w.Suspended,
	}
}

func stopped(q api.QuiescedWorkload) workload.Stopped {
	return workload.Stopped{
		Ref:      workload.Ref{Group: q.Group, Version: q.Version, Kind: q.Kind, Namespace: q.Namespace, Name: q.Name},
		Replicas: q.Replicas, Suspended: q.Suspended,
	}
}

// awaitStart is true as long as the downtime is not measured and may still be.
func (x *run) awaitStart() bool {
	s := x.m.Status
	asked := x.startAsked()
	if s.SourceStopped == nil && !asked || !isTrue(x.m.Spec.StartApplications, false) || s.TargetReady != nil || x.observed.Target == nil {
		return false
	}
	patience := startPatience
	if asked {
		patience = x.m.Spec.Timeouts.Start.Duration
	}
	since := s.VolumeMigrationFinishTimestamp
	return since == nil || x.Now().Sub(since.Time) < patience
}

// startAsked is true for a Migration whose success takes a ready pod on the target. A
// stage run starts nothing there.
func (x *run) startAsked() bool {
	t := x.m.Spec.Timeouts
	return t != nil && t.Start != nil && isTrue(x.m.Spec.StartApplications, false) && !isTrue(x.m.Spec.Stage, false)
}

// neverStarted says of a Migration that was to wait for the target's first pod that
// none was ready; empty otherwise.
func (x *run) neverStarted() string {
	if !x.startAsked() || x.m.Status.TargetReady != nil {
		return ""
	}
	return fmt.Sprintf("the application is on the target, and none of its pods was ready within %s (spec.timeouts.start): look there at the pods of namespaces %s, or take it back with godwitctl rollback migration %s",
		x.m.Spec.Timeouts.Start.Duration, strings.Join(x.namespaces(), ", "), x.m.Name)
}

// measure notes when the target's first pod was ready.
func (x *run) measure() {
	s, t := &x.m.Status, x.observed.Target
	if s.TargetReady != nil || t == nil || t.FirstReady.IsZero() || s.SourceStopped == nil && !x.startAsked() {
		return
	}
	if s.SourceStopped == nil {
		ready := metav1.NewMicroTime(t.FirstReady)
		s.TargetReady = &ready
		x.mark(conditionStarted, "PodReady", "a pod on the target is ready")
		return
	}
	first, likely := likelyReady(s.SourceStopped.Time, t.FirstReady, x.Now())
	ready := metav1.NewMicroTime(first)
	s.TargetReady = &ready
	s.Downtime = &metav1.Duration{Duration: first.Sub(s.SourceStopped.Time).Round(time.Millisecond)}
	message := "the first pod on the target was ready after a downtime of " + s.Downtime.Duration.String()
	if !likely {
		message += fmt.Sprintf(" at most: the target's clock says %s, which cannot be", t.FirstReady.UTC().Format(time.RFC3339))
	}
	x.mark(conditionStarted, "PodReady", message)
}

// clocksApart is how far the clocks of two clusters may be apart that are kept right.
const clocksApart = time.Second

// likelyReady is when the target's first pod was ready. Its clock is another cluster's:
// what cannot be, since the source had not stopped or it lies ahead, is taken for now.
func likelyReady(stopped, told, now time.Time) (ready time.Time, likely bool) {
	if told.Before(stopped) || told.After(now.Add(clocksApart)) {
		return now, false
	}
	return told, true
}
