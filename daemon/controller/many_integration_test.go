package controller_test

import (
	"context"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	corev1 "k8s.io/api/core/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/controller"
	"github.com/godwit-io/godwit/snapshot"
)

const (
	manySchedules = 100
	// mostMemory is what the controller's process may take for them, in bytes.
	mostMemory = 512 << 20
)

// TestManySchedules runs a hundred applications, all due at the same second, on one
// controller: none misses its run or fails, and the memory is bounded. How long they
// take is told, and depends on the machine.
func TestManySchedules(t *testing.T) {
	r := newRig(t)
	p := &api.NamespacedSchedulePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: "often"}, Policy: interval(10, 2)}
	r.must(r.client.Create(t.Context(), p))
	for i := range manySchedules {
		r.scheduled(fmt.Sprintf("app-%d", i))
	}
	r.runControllers()
	began := time.Now()
	var runs map[string]int
	deadline, tick := time.After(5*time.Minute), time.NewTicker(200*time.Millisecond)
	defer tick.Stop()
	for least := 0; least < 1; {
		select {
		case <-deadline:
			t.Fatalf("after %s the runs are %v", time.Since(began), runs)
		case <-tick.C:
		}
		r.carryOutAll()
		runs, least = r.goodRuns()
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	t.Logf("%d schedules had a good run each after %s; the process has %d MiB", manySchedules, time.Since(began).Round(time.Second), memory.Sys>>20)
	if memory.Sys > mostMemory {
		t.Errorf("the process has %d MiB, and may have %d", memory.Sys>>20, mostMemory>>20)
	}
}

// scheduled makes an application of one claim, and its schedule.
func (r *rig) scheduled(app string) {
	r.t.Helper()
	r.claim(app)
	pvc := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: app}}
	r.must(r.client.Patch(r.t.Context(), pvc, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"labels":{"app":%q}}}`, app))))
	s := &api.MigrationSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: app}}
	s.Spec.SchedulePolicyName = "often"
	s.Spec.Template.Spec = api.MigrationSpec{ClusterPair: "west", Namespaces: []string{r.ns}}
	s.Spec.Template.Spec.Selectors = map[string]string{"app": app}
	r.must(r.client.Create(r.t.Context(), s))
}

// runControllers runs the reconcilers as the program does.
func (r *rig) runControllers() {
	r.t.Helper()
	// Nobody reads the events of so many, and a full recorder would block.
	r.migrations.Events = &events.FakeRecorder{}
	again, grace := true, 3*time.Minute
	mgr, err := ctrl.NewManager(server, ctrl.Options{
		Scheme: r.client.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: &again, UsePriorityQueue: new(false)}, GracefulShutdownTimeout: &grace,
		Cache: cache.Options{DefaultNamespaces: map[string]cache.Config{r.ns: {}, home: {}}},
	})
	r.must(err)
	r.migrations.Client, r.migrations.Live, r.migrations.Concurrent, r.migrations.Now = mgr.GetClient(), mgr.GetAPIReader(), 4, time.Now
	schedules := &controller.MigrationSchedules{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: r.migrations.Events, Now: time.Now}
	r.must(r.migrations.SetupWithManager(mgr))
	r.must(schedules.SetupWithManager(mgr))
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			var stacks strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
			r.t.Errorf("the controllers: %v; what still runs: %s", err, &stacks)
		}
	})
}

// carryOutAll plays the nodes for all Migrations.
func (r *rig) carryOutAll() {
	r.t.Helper()
	var list api.VolumeTransferList
	r.must(r.client.List(r.t.Context(), &list, client.InNamespace(home)))
	for _, t := range list.Items {
		if t.Status.Phase == api.TransferSucceeded || !t.DeletionTimestamp.IsZero() || t.Spec.Volume.Namespace != r.ns {
			continue
		}
		w, err := r.repository.Begin(r.t.Context(), snapshot.Image{
			Volume: snapshot.Volume{Cluster: t.Spec.Volume.Cluster, Namespace: t.Spec.Volume.Namespace, Name: t.Spec.Volume.Name},
			Kind:   snapshot.Block, Round: t.Spec.Round, Size: 4096, Taken: t.Spec.Taken.Time,
		}, "")
		r.must(err)
		image, _, err := w.Commit(r.t.Context())
		r.must(err)
		t.Status.Phase, t.Status.Image, t.Status.Size, t.Status.Method = api.TransferSucceeded, string(image.ID), 4096, string(snapshot.MethodScan)
		if err := r.client.Status().Update(r.t.Context(), &t); !apierrors.IsConflict(err) {
			r.must(client.IgnoreNotFound(err)) // The controllers write too.
		}
	}
}

// goodRuns counts the good runs of each schedule, and fails for one that missed a
// run or failed.
func (r *rig) goodRuns() (runs map[string]int, least int) {
	r.t.Helper()
	var list api.MigrationScheduleList
	r.must(r.client.List(r.t.Context(), &list, client.InNamespace(r.ns)))
	runs, least = map[string]int{}, manySchedules
	for _, s := range list.Items {
		if s.Status.MissedRuns > 0 || s.Status.FailuresInARow > 0 {
			r.t.Fatalf("schedule %s missed %d runs and failed %d: %+v", s.Name, s.Status.MissedRuns, s.Status.FailuresInARow, s.Status)
		}
		n := 0
		for _, item := range s.Status.Items[string(api.SchedulePolicyInterval)] {
			if item.Status == api.MigrationStatusSuccessful {
				n++
			}
		}
		runs[s.Name], least = n, min(least, n)
	}
	return runs, least
}
