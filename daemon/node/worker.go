package node

import (
	"context"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// worker runs transfers, each once and few at a time. Its runs end with the
// context of Start.
type worker struct {
	do func(context.Context, *api.VolumeTransfer)
	// jobs has room for every place: handing over a job never blocks.
	jobs chan job
	// wake asks for transfers to be looked at again.
	wake chan event.GenericEvent

	mu      sync.Mutex
	places  int
	runs    map[types.UID]*run
	waiting map[types.NamespacedName]*api.VolumeTransfer
}

type job struct {
	transfer *api.VolumeTransfer
	run      *run
}

// run is a transfer that has a place; stop is closed to end it.
type run struct {
	stop     chan struct{}
	stopping bool
}

func newWorker(places int, do func(context.Context, *api.VolumeTransfer)) *worker {
	return &worker{
		do: do, places: places, jobs: make(chan job, places), wake: make(chan event.GenericEvent),
		runs: map[types.UID]*run{}, waiting: map[types.NamespacedName]*api.VolumeTransfer{},
	}
}

// Start runs what is handed over until ctx ends, and returns once all runs have.
func (w *worker) Start(ctx context.Context) error {
	var runs sync.WaitGroup
	defer runs.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case j := <-w.jobs:
			runs.Go(func() { w.carryOut(ctx, j) })
		}
	}
}

func (w *worker) carryOut(ctx context.Context, j job) {
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-j.run.stop:
			cancel()
		case <-runCtx.Done():
		}
	})
	w.do(runCtx, j.transfer)
	cancel()
	watch.Wait()
	w.release(j.transfer.UID)
	w.ask(ctx, j.transfer)
	w.askWaiting(ctx)
}

// reserve takes a place for the transfer. Without a free one it is remembered
// and woken when there is.
func (w *worker) reserve(t *api.VolumeTransfer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := client.ObjectKeyFromObject(t)
	if len(w.runs) >= w.places {
		w.waiting[key] = t.DeepCopy()
		return false
	}
	delete(w.waiting, key)
	w.runs[t.UID] = &run{stop: make(chan struct{})}
	return true
}

// submit starts a transfer that has a place.
func (w *worker) submit(t *api.VolumeTransfer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jobs <- job{transfer: t, run: w.runs[t.UID]}
}

// release gives a place back.
func (w *worker) release(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.runs, uid)
}

// askWaiting has all that wait for a place looked at again.
func (w *worker) askWaiting(ctx context.Context) {
	w.mu.Lock()
	waiting := slices.Collect(maps.Values(w.waiting))
	clear(w.waiting)
	w.mu.Unlock()
	for _, t := range waiting {
		w.ask(ctx, t)
	}
}

func (w *worker) ask(ctx context.Context, t *api.VolumeTransfer) {
	select {
	case w.wake <- event.GenericEvent{Object: t}:
	case <-ctx.Done():
	}
}

// cancel asks a run to end and reports whether there is one.
func (w *worker) cancel(uid types.UID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.runs[uid]
	if ok && !r.stopping {
		r.stopping = true
		close(r.stop)
	}
	return ok
}

func (w *worker) running(uid types.UID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.runs[uid]
	return ok
}

// forget drops a transfer that is not there any more from those that wait.
func (w *worker) forget(key types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, key)
}
