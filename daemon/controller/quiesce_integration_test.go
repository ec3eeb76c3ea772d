package controller_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

func quiesced(s *api.MigrationSpec) {
	yes := true
	s.Quiesce, s.StartApplications = &yes, &yes
}

// workloads makes one of each kind, and a pod that has the claim.
func (r *rig) workloads(claim string) (pod *corev1.Pod) {
	r.t.Helper()
	three := int32(3)
	labels := map[string]string{"app": "a"}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}}
	template.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	selector := &metav1.LabelSelector{MatchLabels: labels}
	once := template.DeepCopy()
	once.Spec.RestartPolicy = corev1.RestartPolicyNever
	at := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: r.ns, Name: name} }
	deployment := &appsv1.Deployment{ObjectMeta: at("web"), Spec: appsv1.DeploymentSpec{Replicas: &three, Selector: selector, Template: template}}
	zero := int32(0)
	idle := &appsv1.Deployment{ObjectMeta: at("idle"), Spec: appsv1.DeploymentSpec{Replicas: &zero, Selector: selector, Template: template}}
	staying := &appsv1.Deployment{ObjectMeta: at("staying"), Spec: appsv1.DeploymentSpec{Selector: selector, Template: template}}
	staying.Annotations = map[string]string{"godwit.io/skip-resource": "true"}
	for _, obj := range []client.Object{
		deployment, idle, staying,
		&appsv1.StatefulSet{ObjectMeta: at("db"), Spec: appsv1.StatefulSetSpec{Selector: selector, Template: template, ServiceName: "db"}},
		&appsv1.DaemonSet{ObjectMeta: at("agent"), Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template}},
		&batchv1.CronJob{ObjectMeta: at("nightly"), Spec: batchv1.CronJobSpec{Schedule: "0 0 * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: *once}}}},
		&batchv1.Job{ObjectMeta: at("import"), Spec: batchv1.JobSpec{Template: *once}},
	} {
		r.must(r.client.Create(r.t.Context(), obj))
	}
	pod = &corev1.Pod{ObjectMeta: at("db-0"), Spec: template.Spec}
	yes := true
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", UID: "u", Controller: &yes}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}}
	pod.Spec.Tolerations, pod.Spec.ServiceAccountName = nil, ""
	r.must(r.client.Create(r.t.Context(), pod))
	return pod
}

// state tells in words how the workloads are.
func (r *rig) state() map[string]string {
	r.t.Helper()
	out := map[string]string{}
	say := func(name string, runs bool, o client.Object) {
		word := "stopped"
		if runs {
			word = "runs"
		}
		for _, key := range []string{"stork.libopenstorage.org/migrationReplicas", "godwit.io/suspend"} {
			if v, ok := o.GetAnnotations()[key]; ok {
				word += " was " + v
			}
		}
		out[name] = word
	}
	var deployments appsv1.DeploymentList
	var sets appsv1.StatefulSetList
	var daemons appsv1.DaemonSetList
	var crons batchv1.CronJobList
	var jobs batchv1.JobList
	for _, list := range []client.ObjectList{&deployments, &sets, &daemons, &crons, &jobs} {
		r.must(r.client.List(r.t.Context(), list, client.InNamespace(r.ns)))
	}
	for _, d := range deployments.Items {
		say(d.Name, *d.Spec.Replicas > 0, &d)
	}
	for _, s := range sets.Items {
		say(s.Name, *s.Spec.Replicas > 0, &s)
	}
	for _, d := range daemons.Items {
		say(d.Name, d.Spec.Template.Spec.NodeSelector["godwit.io/held"] == "", &d)
	}
	for _, c := range crons.Items {
		say(c.Name, !*c.Spec.Suspend, &c)
	}
	for _, j := range jobs.Items {
		say(j.Name, !*j.Spec.Suspend, &j)
	}
	return out
}

func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s: %s %s, want %s", what, name, got[name], want[name])
		}
	}
}

// TestQuiesce stops every kind before the snapshots, waits for the pods, and leaves
// the source stopped when the application runs on the target.
func TestQuiesce(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	pod := r.workloads("data")
	r.migration("move", quiesced)
	for range 12 {
		r.step("move")
	}
	m := r.get("move")
	ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady)
	if len(r.storage.left()) > 0 || ready == nil || !strings.Contains(ready.Message, "waiting for pod "+r.ns+"/db-0 to end") {
		t.Fatalf("a snapshot was taken with a pod at the volume: %v, %+v", r.storage.left(), ready)
	}
	want := map[string]string{
		"web": "stopped was 3", "db": "stopped was 1", "agent": "stopped", "nightly": "stopped was false", "import": "stopped was false",
		"idle": "stopped", "staying": "runs",
	}
	same(t, "quiesced", r.state(), want)
	zero := int64(0)
	r.must(r.client.Delete(t.Context(), pod, &client.DeleteOptions{GracePeriodSeconds: &zero}))
	r.target.firstReady = r.now.Add(time.Second)
	m = r.until("move", "its end", ended, r.carryOut("move"))
	if m.Status.Status != api.MigrationStatusSuccessful || m.Status.Downtime == nil || m.Status.Downtime.Duration <= 0 {
		t.Errorf("it ended as %s with a downtime of %v", m.Status.Status, m.Status.Downtime)
	}
	same(t, "moved", r.state(), want)
	round, err := r.repository.Sealed(t.Context(), m.Status.Application, m.Status.Round)
	r.must(err)
	if !strings.Contains(string(round.Objects), `migrationReplicas: "3"`) {
		t.Error("the round does not say how many replicas there were")
	}
}

// TestSourceRunsAgain fails, cancels and deletes quiesced Migrations at each of
// their stages: whatever was stopped runs again as before.
func TestSourceRunsAgain(t *testing.T) {
	for _, how := range []string{"fail", "cancel", "delete"} {
		for _, stage := range []string{stopping, snapshotted, uploaded, begun} {
			if how == "fail" && stage != begun {
				continue
			}
			t.Run(how+" at "+stage, func(t *testing.T) {
				r := newRig(t)
				r.claim("data")
				r.must(r.client.Delete(t.Context(), r.workloads("data"), client.GracePeriodSeconds(0)))
				before := r.state()
				r.target.phase = migrate.TargetVolumes
				r.migration("move", quiesced)
				m := r.until("move", stage, is(stage), r.carryOut("move"))
				r.end(how, m)
				same(t, "afterwards", r.state(), before)
				if left := r.left(m); len(left) > 0 || len(r.target.rounds) > 0 {
					t.Errorf("left: %v; on the target: %v", left, r.target.rounds)
				}
			})
		}
	}
}

// end ends a Migration in one of the ways that are not a success.
func (r *rig) end(how string, m *api.Migration) {
	r.t.Helper()
	switch how {
	case "fail":
		r.target.phase = migrate.TargetFailed
	case "cancel":
		r.cancel(m)
	case "delete":
		r.must(r.client.Delete(r.t.Context(), m))
		for range 12 {
			r.step(m.Name)
		}
		return
	}
	m = r.until(m.Name, "its end", func(m *api.Migration) bool {
		return ended(m) && !slices.ContainsFunc(m.Status.Quiesced, func(q api.QuiescedWorkload) bool { return !q.Restored })
	})
	if want := map[string]api.MigrationStatusType{"fail": api.MigrationStatusFailed, "cancel": api.MigrationStatusCancelled}[how]; m.Status.Status != want {
		r.t.Errorf("it ended as %s, want %s", m.Status.Status, want)
	}
}

func (r *rig) cancel(m *api.Migration) {
	r.t.Helper()
	yes := true
	before := m.DeepCopy()
	m.Spec.Cancel = &yes
	r.must(r.client.Patch(r.t.Context(), m, client.MergeFrom(before)))
}

// TestCancelAtEachStage cancels a stage run: nothing of it is left but what the next one
// starts from, which is what was sealed last.
func TestCancelAtEachStage(t *testing.T) {
	for _, stage := range []string{admitted, checked, snapshotted, uploaded, sealed, begun} {
		t.Run(stage, func(t *testing.T) {
			r := newRig(t)
			r.claim("data")
			good, _ := r.stage("good", staged)
			r.target.phase = migrate.TargetVolumes
			r.migration("move", staged)
			r.cancel(r.until("move", stage, is(stage), r.carryOut("move")))
			for range 8 {
				r.step("move")
			}
			m := r.get("move")
			if m.Status.Status != api.MigrationStatusCancelled || !ended(m) {
				t.Fatalf("it is %s: %+v", m.Status.Status, m.Status.Conditions)
			}
			if left := r.left(m); len(left) != 1 || len(r.target.rounds) != 1 {
				t.Errorf("left: %v; on the target: %v", left, r.target.rounds)
			}
			r.target.phase = migrate.TargetReady
			last := good
			if is(sealed)(m) {
				last = m
			}
			if _, transfer := r.stage("again", staged); transfer.Spec.Base == nil || transfer.Spec.Base.Image != last.Status.Volumes[0].Image {
				t.Errorf("after it the next one starts from %+v", transfer.Spec.Base)
			}
		})
	}
}
