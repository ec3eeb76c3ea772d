package controller_test

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/controller"
)

// calendar is a schedule in a namespace of its own, with a clock that the test turns.
type calendar struct {
	t      *testing.T
	c      client.Client
	r      *controller.MigrationSchedules
	key    client.ObjectKey
	now    time.Time
	events *events.FakeRecorder
	made   map[string]bool
}

func newCalendar(t *testing.T, policy api.SchedulePolicyItem, change func(*api.MigrationScheduleSpec)) *calendar {
	t.Helper()
	c, namespace := connect(t)
	k := &calendar{
		t: t, c: c, key: client.ObjectKey{Namespace: namespace, Name: "nightly"},
		now: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC), events: events.NewFakeRecorder(1000), made: map[string]bool{},
	}
	k.r = &controller.MigrationSchedules{Client: c, Live: c, Events: k.events, Now: func() time.Time { return k.now }}
	p := &api.NamespacedSchedulePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "policy"}, Policy: policy}
	if err := c.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	s := &api.MigrationSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: k.key.Name}}
	s.Spec.SchedulePolicyName = "policy"
	s.Spec.Template.Spec.ClusterPair, s.Spec.Template.Spec.Namespaces = "prod", []string{namespace}
	if change != nil {
		change(&s.Spec)
	}
	if err := c.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return k
}

func interval(minutes, retain int) api.SchedulePolicyItem {
	return api.SchedulePolicyItem{Interval: &api.IntervalPolicy{IntervalMinutes: minutes, Retain: retain}}
}

// look reconciles until nothing changes at this moment, and returns the schedule.
func (k *calendar) look() api.MigrationSchedule {
	k.t.Helper()
	for range 3 {
		if _, err := k.r.Reconcile(k.t.Context(), ctrl.Request{NamespacedName: k.key}); err != nil {
			k.t.Fatal(err)
		}
	}
	var s api.MigrationSchedule
	if err := k.c.Get(k.t.Context(), k.key, &s); err != nil {
		k.t.Fatal(err)
	}
	return s
}

func (k *calendar) runs() []api.Migration {
	k.t.Helper()
	var list api.MigrationList
	if err := k.c.List(k.t.Context(), &list, client.InNamespace(k.key.Namespace)); err != nil {
		k.t.Fatal(err)
	}
	return list.Items
}

// running is the one run that has not ended; it is an error if there are others.
func (k *calendar) running() *api.Migration {
	k.t.Helper()
	var found *api.Migration
	for _, m := range k.runs() {
		if m.Status.Stage == api.MigrationStageFinal {
			continue
		}
		if found != nil {
			k.t.Fatalf("%s and %s run at once", found.Name, m.Name)
		}
		found = &m
	}
	return found
}

// end ends the running Migration.
func (k *calendar) end(status api.MigrationStatusType, reason string) {
	k.t.Helper()
	m := k.running()
	if m == nil {
		k.t.Fatal("no run to end")
	}
	k.endRun(m, status, reason)
}

func (k *calendar) endRun(m *api.Migration, status api.MigrationStatusType, reason string) {
	k.t.Helper()
	if err := k.c.Get(k.t.Context(), client.ObjectKeyFromObject(m), m); err != nil {
		k.t.Fatal(err)
	}
	at := metav1.NewTime(k.now)
	m.Status.Stage, m.Status.Status, m.Status.FinishTimestamp = api.MigrationStageFinal, status, &at
	meta.SetStatusCondition(&m.Status.Conditions, metav1.Condition{Type: api.ConditionReady, Status: metav1.ConditionFalse, Reason: reason, Message: "said by the test"})
	if err := k.c.Status().Update(k.t.Context(), m); err != nil {
		k.t.Fatal(err)
	}
}

// seal has a run's round sealed.
func (k *calendar) seal(m *api.Migration) {
	k.t.Helper()
	meta.SetStatusCondition(&m.Status.Conditions, metav1.Condition{Type: sealed, Status: metav1.ConditionTrue, Reason: "Sealed"})
	if err := k.c.Status().Update(k.t.Context(), m); err != nil {
		k.t.Fatal(err)
	}
}

func (k *calendar) after(d time.Duration) api.MigrationSchedule {
	k.t.Helper()
	k.now = k.now.Add(d)
	return k.look()
}

func (k *calendar) told(words string) bool {
	for {
		select {
		case e := <-k.events.Events:
			if strings.Contains(e, words) {
				return true
			}
		default:
			return false
		}
	}
}

func reasonOf(s api.MigrationSchedule) string {
	if c := meta.FindStatusCondition(s.Status.Conditions, api.ConditionReady); c != nil {
		return c.Reason + ": " + c.Message
	}
	return ""
}

func TestScheduleRunsOneAfterAnother(t *testing.T) {
	t.Parallel()
	k := newCalendar(t, interval(60, 10), nil)
	s := k.look()
	first := k.running()
	if first == nil || first.Name != "nightly-interval-2026-03-01-100000" || !metav1.IsControlledBy(first, &s) {
		t.Fatalf("the first run is %+v", first)
	}
	if first.Spec.ClusterPair != "prod" || first.Annotations[api.AnnotationScheduleName] != "nightly" || !k.told("Started") {
		t.Errorf("the run is not made from the template, or was not told of: %+v", first)
	}
	// One that takes longer than the interval holds the next ones up.
	k.after(3*time.Hour + 10*time.Minute)
	if n := len(k.runs()); n != 1 {
		t.Fatalf("%d runs while the first one runs", n)
	}
	k.end(api.MigrationStatusSuccessful, "Successful")
	s = k.look()
	if m := k.running(); m == nil || s.Status.MissedRuns != 2 || !k.told("were left out") {
		t.Fatalf("after an overlap: run %v, %d missed, want a run and 2 missed", m, s.Status.MissedRuns)
	}
	k.end(api.MigrationStatusSuccessful, "Successful")
	s = k.look()
	want := k.now.Add(time.Hour)
	if s.Status.NextRun == nil || !s.Status.NextRun.Time.Equal(want) || s.Status.LastSuccess == nil || !strings.HasPrefix(reasonOf(s), "Scheduled") {
		t.Errorf("next run %v, want %v; last success %v; %s", s.Status.NextRun, want, s.Status.LastSuccess, reasonOf(s))
	}
	// Deleting the runs does not make the last one due again.
	for _, m := range k.runs() {
		if err := k.c.Delete(t.Context(), &m); err != nil {
			t.Fatal(err)
		}
	}
	if s = k.after(time.Minute); len(k.runs()) != 0 || !s.Status.NextRun.Time.Equal(want) {
		t.Errorf("%d runs after their deletion, next %v", len(k.runs()), s.Status.NextRun)
	}
}

func TestScheduleKeepsWhatItIsTold(t *testing.T) {
	t.Parallel()
	k := newCalendar(t, interval(60, 2), nil)
	for _, status := range []api.MigrationStatusType{"Successful", "Failed", "PartialSuccess", "Successful", "Failed", "Failed", "Failed"} {
		k.after(time.Hour)
		k.end(status, "Ended")
	}
	s := k.after(time.Minute)
	var left []string
	for _, m := range k.runs() {
		left = append(left, string(m.Status.Status))
	}
	// The two good ones, and as many of the failures since.
	if got := strings.Join(left, " "); got != "PartialSuccess Successful Failed Failed" {
		t.Errorf("left: %s", got)
	}
	if s.Status.FailuresInARow != 3 || len(s.Status.Items["Interval"]) != 4 {
		t.Errorf("%d failures in a row, items %v", s.Status.FailuresInARow, s.Status.Items)
	}
	if s.Status.LastSuccess == nil || s.Status.LastSuccess.Status != api.MigrationStatusSuccessful {
		t.Errorf("last success: %+v", s.Status.LastSuccess)
	}
}

func TestScheduleSuspends(t *testing.T) {
	t.Parallel()
	k := newCalendar(t, interval(60, 2), func(s *api.MigrationScheduleSpec) { s.AutoSuspend = true })
	k.look()
	k.end(api.MigrationStatusFailed, api.ReasonApplicationActivated)
	s := k.after(2 * time.Hour)
	if s.Spec.Suspend == nil || !*s.Spec.Suspend || k.running() != nil || !strings.HasPrefix(reasonOf(s), "Suspended") {
		t.Fatalf("an application that runs on the target is replicated on: %s", reasonOf(s))
	}
	if !k.told("Suspending migration schedule since migrated apps on remote cluster are active") {
		t.Error("nobody was told")
	}
	resume := false
	s.Spec.Suspend = &resume
	if err := k.c.Update(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
	if s = k.after(24 * time.Hour); k.running() == nil || s.Status.MissedRuns != 0 {
		t.Errorf("resumed: run %v, %d missed, want one and none: %s", k.running(), s.Status.MissedRuns, reasonOf(s))
	}
}

func TestScheduleContinuous(t *testing.T) {
	t.Parallel()
	k := newCalendar(t, interval(60, 2), func(s *api.MigrationScheduleSpec) { s.Continuous, s.MinIntervalSeconds = true, 20 })
	k.look()
	k.now = k.now.Add(5 * time.Second)
	k.end(api.MigrationStatusSuccessful, "Successful")
	if s := k.look(); k.running() != nil || !s.Status.NextRun.Time.Equal(k.now.Add(15*time.Second)) {
		t.Errorf("the floor of 20 s does not hold: next %v", s.Status.NextRun)
	}
	k.after(15 * time.Second)
	if k.running() == nil {
		t.Fatal("no run after the floor")
	}
	k.now = k.now.Add(time.Minute)
	k.end(api.MigrationStatusSuccessful, "Successful")
	if k.look(); k.running() == nil {
		t.Error("a run that took longer than the floor is not followed at once")
	}
	// What fails again and again is tried less and less often.
	for range 12 {
		k.end(api.MigrationStatusFailed, "Failed")
		for k.look(); k.running() == nil; k.look() {
			k.now = k.now.Add(time.Second)
			var s api.MigrationSchedule
			if err := k.c.Get(t.Context(), k.key, &s); err != nil {
				t.Fatal(err)
			}
			if s.Status.NextRun.After(k.now) {
				k.now = s.Status.NextRun.Time
			}
		}
	}
	started := k.now
	k.end(api.MigrationStatusFailed, "Failed")
	if s := k.look(); s.Status.NextRun.Sub(started) != 10*time.Minute {
		t.Errorf("after 13 failures the next run is %v after the last", s.Status.NextRun.Sub(started))
	}
}

// TestContinuousFollowsTheSeal starts the next run of a continuous schedule once the
// last one is sealed, and a third one only when the first has ended. Other schedules
// have one at a time.
func TestContinuousFollowsTheSeal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*api.MigrationScheduleSpec)
		most   int
	}{
		"continuous": {func(s *api.MigrationScheduleSpec) { s.Continuous, s.MinIntervalSeconds = true, 20 }, 2},
		"interval":   {nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newCalendar(t, interval(1, 10), c.change)
			k.look()
			if k.after(time.Hour); len(k.runs()) != 1 {
				t.Fatalf("%d runs while the first one is not sealed", len(k.runs()))
			}
			first := k.running()
			k.seal(first)
			if k.look(); len(k.runs()) != c.most {
				t.Fatalf("%d runs once the first one is sealed, want %d", len(k.runs()), c.most)
			}
			for _, m := range k.runs() {
				k.seal(&m)
			}
			if k.after(time.Hour); len(k.runs()) != c.most {
				t.Fatalf("%d runs that have not ended", len(k.runs()))
			}
			k.endRun(first, api.MigrationStatusSuccessful, "Successful")
			if s := k.look(); len(k.runs()) != c.most+1 || s.Status.LastSuccess == nil || s.Status.LastSuccess.Name != first.Name {
				t.Errorf("%d runs after the first has ended, last success %v", len(k.runs()), s.Status.LastSuccess)
			}
		})
	}
}

// TestLastSealedIsTheNewestRecoveryPoint tells what could be failed over to from the seal
// on, by the oldest snapshot, until that run is taken back.
func TestLastSealedIsTheNewestRecoveryPoint(t *testing.T) {
	t.Parallel()
	k := newCalendar(t, interval(1, 10), func(s *api.MigrationScheduleSpec) { s.Continuous, s.MinIntervalSeconds = true, 20 })
	if s := k.look(); s.Status.LastSealed != nil {
		t.Errorf("sealed before anything was: %+v", s.Status.LastSealed)
	}
	first := k.running()
	taken := func(m *api.Migration, after ...time.Duration) {
		for _, d := range after {
			at := metav1.NewTime(k.now.Add(d).Truncate(time.Second))
			m.Status.Volumes = append(m.Status.Volumes, api.MigrationVolumeInfo{Namespace: "cms", PersistentVolumeClaim: d.String(), VolumeRound: api.VolumeRound{Taken: &at}})
		}
		k.seal(m)
	}
	taken(first, 3*time.Second, time.Second)
	s := k.look()
	if l := s.Status.LastSealed; l == nil || l.Name != first.Name || !l.Taken.Time.Equal(k.now.Add(time.Second).Truncate(time.Second)) {
		t.Errorf("last sealed %+v, want %s of its oldest snapshot", l, first.Name)
	}
	k.endRun(first, api.MigrationStatusSuccessful, "Successful")
	k.after(time.Hour)
	second := k.running()
	taken(second, 2*time.Second)
	if l := k.look().Status.LastSealed; l == nil || l.Name != second.Name {
		t.Errorf("last sealed %+v, want %s", l, second.Name)
	}
	meta.SetStatusCondition(&second.Status.Conditions, metav1.Condition{Type: "TargetCleared", Status: metav1.ConditionTrue, Reason: "Cancelled"})
	if err := k.c.Status().Update(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	k.endRun(second, api.MigrationStatusCancelled, "Cancelled")
	if l := k.look().Status.LastSealed; l == nil || l.Name != first.Name {
		t.Errorf("last sealed %+v after %s was taken back, want %s", l, second.Name, first.Name)
	}
	// One that is deleted before it ends is taken back too, and never seen to end.
	k.after(time.Hour)
	third := k.running()
	taken(third, time.Second)
	if l := k.look().Status.LastSealed; l == nil || l.Name != third.Name {
		t.Errorf("last sealed %+v, want %s", l, third.Name)
	}
	if err := k.c.Delete(t.Context(), third); err != nil {
		t.Fatal(err)
	}
	if l := k.look().Status.LastSealed; l == nil || l.Name != first.Name {
		t.Errorf("last sealed %+v after %s was deleted, want %s", l, third.Name, first.Name)
	}
	// What retention had go is still to be failed over to.
	if err := k.c.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if l := k.look().Status.LastSealed; l == nil || l.Name != first.Name {
		t.Errorf("last sealed %+v after retention had %s go", l, first.Name)
	}
}

func TestScheduleSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy api.SchedulePolicyItem
		change func(*api.MigrationScheduleSpec)
		says   string
	}{
		"no such policy": {interval(60, 1), func(s *api.MigrationScheduleSpec) { s.SchedulePolicyName = "nosuch" }, "SchedulePolicy nosuch exists: create one"},
		"bad time":       {api.SchedulePolicyItem{Daily: &api.DailyPolicy{Time: "noon"}}, nil, "policy.daily.time: \"noon\" is no time of day"},
		"bad day":        {api.SchedulePolicyItem{Weekly: &api.WeeklyPolicy{Day: "Caturday", Time: "1:00PM"}}, nil, "policy.weekly.day"},
		"bad zone":       {api.SchedulePolicyItem{Daily: &api.DailyPolicy{Time: "1:00PM"}, TimeZone: "Mars"}, nil, "policy.timeZone"},
		"no section":     {api.SchedulePolicyItem{}, nil, "has no section"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newCalendar(t, c.policy, c.change)
			s := k.look()
			if !strings.Contains(reasonOf(s), c.says) || len(k.runs()) != 0 || !k.told(c.says) {
				t.Errorf("it says %q, with %d runs; want %q", reasonOf(s), len(k.runs()), c.says)
			}
		})
	}
}

func TestSchedulePolicyLookup(t *testing.T) {
	t.Parallel()
	k := newCalendar(t, api.SchedulePolicyItem{Daily: &api.DailyPolicy{Time: "10:14PM"}}, func(s *api.MigrationScheduleSpec) { s.SchedulePolicyName = "default-interval-policy" })
	if err := (controller.DefaultPolicies{Client: k.c}).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := (controller.DefaultPolicies{Client: k.c}).Start(t.Context()); err != nil {
		t.Fatalf("a second start: %v", err)
	}
	own := &api.NamespacedSchedulePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: k.key.Namespace, Name: "default-interval-policy"},
		Policy: api.SchedulePolicyItem{Daily: &api.DailyPolicy{Time: "10:14PM"}, TimeZone: "Europe/Madrid"}}
	if err := k.c.Create(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	// The namespace's own is daily, in Madrid; the cluster's would start at once.
	if s := k.look(); k.running() != nil || !s.Status.NextRun.Time.Equal(time.Date(2026, 3, 1, 21, 14, 0, 0, time.UTC)) {
		t.Errorf("next run %v: %s", s.Status.NextRun, reasonOf(s))
	}
	if err := k.c.Delete(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	if k.look(); k.running() == nil {
		t.Error("the cluster's policy does not stand in for the namespace's")
	}
}

// TestCopyMakesNoRuns has the copy of another cluster's schedule resumed by mistake.
func TestCopyMakesNoRuns(t *testing.T) {
	k := newCalendar(t, interval(1, 1), nil)
	s := k.look()
	if len(k.runs()) != 1 {
		t.Fatalf("%d runs of a schedule that is no copy", len(k.runs()))
	}
	s.Annotations = map[string]string{api.AnnotationStaticCopy: "true"}
	if err := k.c.Update(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
	if err := k.c.DeleteAllOf(t.Context(), &api.Migration{}, client.InNamespace(k.key.Namespace)); err != nil {
		t.Fatal(err)
	}
	k.now = k.now.Add(time.Hour)
	s = k.look()
	if c := meta.FindStatusCondition(s.Status.Conditions, api.ConditionReady); len(k.runs()) != 0 || c == nil || c.Reason != "Copy" || s.Status.NextRun != nil {
		t.Errorf("a copy made %d runs, and says %+v", len(k.runs()), s.Status)
	}
}
