package node

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

const (
	// maxAttempts bounds how often a transfer is started that gets no further.
	maxAttempts = 10
	firstPause  = time.Second
	longPause   = time.Minute
)

// Reconciler starts and stops the transfers of its node.
type Reconciler struct {
	client client.Client
	live   client.Reader
	now    func() time.Time
	cfg    Config
	work   *worker
}

// Reconcile brings one transfer a step further.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var t api.VolumeTransfer
	if err := r.client.Get(ctx, req.NamespacedName, &t); err != nil {
		r.work.forget(req.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	switch {
	case t.Spec.Node != r.cfg.NodeName:
		return ctrl.Result{}, nil
	case t.DeletionTimestamp != nil:
		r.work.forget(req.NamespacedName)
		if r.work.cancel(t.UID) {
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, r.letGo(ctx, &t)
	case r.work.running(t.UID):
		return ctrl.Result{}, nil
	case isFinal(t.Status.Phase):
		return ctrl.Result{}, r.letGo(ctx, &t)
	}
	if wait := pause(t.Status).Sub(r.now()); t.Status.Phase == api.TransferPending && wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	return ctrl.Result{}, r.start(ctx, &t)
}

// start makes the transfer Running and hands it to the worker. What it decides
// by is read again past the cache, and every patch fails if it has changed
// since: a transfer that has just ended must not be started again, for its
// volume may be in use by now.
func (r *Reconciler) start(ctx context.Context, cached *api.VolumeTransfer) error {
	key := client.ObjectKeyFromObject(cached)
	if !r.work.reserve(cached) {
		return r.say(ctx, cached, fmt.Sprintf("waits for one of %d places on node %s", r.cfg.Transfers, r.cfg.NodeName))
	}
	started := false
	defer func() {
		if !started {
			r.work.release(cached.UID)
			r.work.askWaiting(ctx)
		}
	}()
	var t api.VolumeTransfer
	if err := r.live.Get(ctx, key, &t); err != nil {
		return client.IgnoreNotFound(err)
	}
	if t.UID != cached.UID || t.DeletionTimestamp != nil || isFinal(t.Status.Phase) || t.Spec.Node != r.cfg.NodeName {
		return nil
	}
	before := t.DeepCopy()
	if controllerutil.AddFinalizer(&t, api.TransferFinalizer) {
		if err := r.client.Patch(ctx, &t, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return fmt.Errorf("start transfer %s: %w", t.Name, err)
		}
	}
	before = t.DeepCopy()
	started = markStarted(&t.Status, r.now(), r.cfg.Patience)
	if err := r.client.Status().Patch(ctx, &t, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		started = false
		return fmt.Errorf("start transfer %s: %w", t.Name, err)
	}
	if started {
		r.work.submit(&t)
	}
	return nil
}

// markStarted counts the attempt, or gives up where there were too many: a
// transfer that ends its daemon each time would otherwise do so for ever.
func markStarted(s *api.VolumeTransferStatus, now time.Time, patience time.Duration) bool {
	at := metav1.NewTime(now)
	s.Heartbeat = &at
	if hopeless(*s, now, patience) {
		s.Phase, s.FinishTime = api.TransferFailed, &at
		s.Message = fmt.Sprintf("given up after %d attempts, the last of which ended with its daemon: see the daemon's log, then make another transfer", s.Attempts)
		return false
	}
	if s.Phase == api.TransferRunning {
		s.LastFailure, s.LastFailed = fmt.Sprintf("attempt %d ended with its daemon", s.Attempts), &at
	}
	s.Phase, s.Message = api.TransferRunning, ""
	s.Attempts++
	if s.StartTime == nil {
		s.StartTime = &at
	}
	return true
}

// say tells what a transfer waits for, once.
func (r *Reconciler) say(ctx context.Context, t *api.VolumeTransfer, message string) error {
	if t.Status.Message == message {
		return nil
	}
	before := t.DeepCopy()
	t.Status.Phase, t.Status.Message = api.TransferPending, message
	err := r.client.Status().Patch(ctx, t, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("tell what transfer %s waits for: %w", t.Name, err)
	}
	return nil
}

// letGo drops the finalizer of a transfer that nothing works on.
func (r *Reconciler) letGo(ctx context.Context, t *api.VolumeTransfer) error {
	before := t.DeepCopy()
	if !controllerutil.RemoveFinalizer(t, api.TransferFinalizer) {
		return nil
	}
	err := r.client.Patch(ctx, t, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("let transfer %s go: %w", t.Name, err)
	}
	return nil
}

func isFinal(p api.TransferPhase) bool {
	return p == api.TransferSucceeded || p == api.TransferFailed
}

// pause tells until when a transfer rests after its last attempt, each time
// twice as long.
func pause(s api.VolumeTransferStatus) time.Time {
	if s.Attempts == 0 || s.Heartbeat == nil {
		return time.Time{}
	}
	return s.Heartbeat.Add(min(firstPause<<(s.Attempts-1), longPause))
}
