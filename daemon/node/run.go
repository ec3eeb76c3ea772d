package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
)

const (
	// tellInterval is how often progress is written at most, beatInterval how
	// often a transfer without any says that it lives.
	tellInterval = time.Second
	beatInterval = 10 * time.Second
)

// runner carries out one attempt after the other, and writes what came of it.
type runner struct {
	client client.Client
	live   client.Reader
	events events.EventRecorder
	now    func() time.Time
	cfg    Config
	// metrics counts what was read and how; nil counts nothing.
	metrics *metrics
}

// result is what a finished attempt leaves in the status.
type result struct {
	image      snapshot.ImageID
	filesystem string
	size       int64
	method     snapshot.Method
	// missed says why no better method was possible, as attempt has it.
	missed string
	stats  snapshot.Stats
	// differs says where a volume that was compared differs.
	differs string
}

// run carries out the transfer, which was marked Running, and returns when
// nothing of it is under way any more. A run whose context ends writes nothing:
// whoever ended it knows, and the next daemon starts it again.
func (r *runner) run(ctx context.Context, t *api.VolumeTransfer) {
	logger := log.FromContext(ctx).WithValues("transfer", t.Name, "volume", t.Spec.Volume, "direction", t.Spec.Direction, "attempt", t.Status.Attempts)
	logger.Info("transfer starts")
	told := &latest{}
	working, give := context.WithCancelCause(ctx)
	defer give(nil)
	telling, stop := context.WithCancel(ctx)
	var teller sync.WaitGroup
	// A patch also reads the object back, while the attempt reads its own.
	reported := t.DeepCopy()
	teller.Go(func() { r.tell(telling, reported, told, give) })
	done, err := r.attempt(working, t, told)
	if stuck := context.Cause(working); err != nil && errors.Is(stuck, errStuck) {
		err = stuck
	}
	stop()
	teller.Wait()
	t.Status.Furthest, t.Status.LastProgress = reported.Status.Furthest, reported.Status.LastProgress
	if ctx.Err() != nil {
		logger.Info("transfer was stopped")
		return
	}
	if err != nil {
		r.markFailed(t, told.get(), err)
		logger.Error(err, "transfer failed", "phase", t.Status.Phase)
	} else {
		r.markSucceeded(t, done)
		r.metrics.count(t, done)
		logger.Info("transfer succeeded", "image", done.image, "method", done.method, "stats", done.stats)
	}
	r.metrics.ended(t)
	r.write(ctx, t)
}

// attempt opens the repository and goes the way that direction and mode ask for.
func (r *runner) attempt(ctx context.Context, t *api.VolumeTransfer, told *latest) (_ result, err error) {
	location, err := r.location(ctx, t.Spec.RepositorySecret)
	if err != nil {
		return result{}, err
	}
	repository, err := r.cfg.Opener.Open(ctx, location, t.Spec.Direction == api.Upload)
	if err != nil {
		return result{}, err
	}
	defer func() {
		if closing := repository.Close(context.WithoutCancel(ctx)); err == nil && closing != nil {
			err = fmt.Errorf("close the repository: %w", closing)
		}
	}()
	a := &attempt{
		runner: r, transfer: t, repository: repository, progress: told.tell,
		volumes: published{kubeletDir: r.cfg.KubeletDir, plainFiles: r.cfg.PlainFiles},
	}
	do, known := a.ways()[way{t.Spec.Direction, t.Spec.Mount.Mode}]
	if !known {
		return result{}, final("this daemon knows no transfer with direction %q and mode %q: give controller and nodes the same version", t.Spec.Direction, t.Spec.Mount.Mode)
	}
	return do(ctx)
}

// way is what a transfer is to do.
type way struct {
	direction api.TransferDirection
	mode      string
}

func (a *attempt) ways() map[way]func(context.Context) (result, error) {
	return map[way]func(context.Context) (result, error){
		{api.Upload, modeBlock}: a.uploadBlocks, {api.Upload, modeFilesystem}: a.uploadTree,
		{api.Apply, modeBlock}: a.applyBlocks, {api.Apply, modeFilesystem}: a.applyTree,
		{api.Keep, modeBlock}:    a.keepBlocks,
		{api.Compare, modeBlock}: a.compareBlocks, {api.Compare, modeFilesystem}: a.compareTree,
	}
}

// location reads the repository's Secret, past any cache: secrets are kept in
// memory no longer than they are needed.
func (r *runner) location(ctx context.Context, name string) (snapshot.Location, error) {
	key := types.NamespacedName{Namespace: r.cfg.Namespace, Name: name}
	var secret corev1.Secret
	if err := r.live.Get(ctx, key, &secret); err != nil {
		return snapshot.Location{}, fmt.Errorf("read the repository's Secret %s: %w", key, err)
	}
	location, err := snapshot.LocationFromData(secret.Data)
	if err != nil {
		return snapshot.Location{}, fmt.Errorf("repository's Secret %s: %w", key, err)
	}
	// Each writer of a repository needs a name of its own.
	location.User, location.Host = "node", r.cfg.NodeName+"."+r.cfg.ClusterID
	location.CacheDir = r.cfg.CacheDir
	return location, nil
}

// tell writes the progress as long as the run lasts.
func (r *runner) tell(ctx context.Context, t *api.VolumeTransfer, told *latest, give context.CancelCauseFunc) {
	tick := time.NewTicker(tellInterval)
	defer tick.Stop()
	var m meter
	dog := watchdog{patience: r.cfg.Patience}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		before := t.DeepCopy()
		now := metav1.NewTime(r.now())
		if paused := r.cfg.Limiters.paused(now.Time); paused {
			dog.pause()
			t.Status.Message, t.Status.LastProgress = pausedMessage, &now
		} else if t.Status.Message == pausedMessage {
			t.Status.Message = ""
		}
		if stuck := dog.look(now.Time, told.get()); stuck != nil {
			give(stuck)
			t.Status.Message = stuck.Error()
		}
		t.Status.Progress = m.progress(now.Time, told.get())
		noteProgress(&t.Status, now.Time)
		beaten := t.Status.Heartbeat != nil && now.Sub(t.Status.Heartbeat.Time) < beatInterval
		if beaten && t.Status.Progress == before.Status.Progress && t.Status.Message == before.Status.Message {
			continue
		}
		t.Status.Heartbeat = &now
		// What is not told now is told a second later.
		if err := r.client.Status().Patch(ctx, t, client.MergeFrom(before)); err != nil {
			t.Status = before.Status
			if ctx.Err() == nil {
				log.FromContext(ctx).Info("progress was not written", "transfer", t.Name, "error", err.Error())
			}
		}
	}
}

func (r *runner) markSucceeded(t *api.VolumeTransfer, done result) {
	now := metav1.NewTime(r.now())
	s := &t.Status
	s.Phase, s.Message, s.Heartbeat, s.FinishTime = api.TransferSucceeded, "", &now, &now
	s.Image, s.Filesystem, s.Size, s.Method = string(done.image), done.filesystem, done.size, string(done.method)
	s.Progress, s.Differs = counts(done.stats), done.differs
	if elapsed := now.Sub(s.StartTime.Time); elapsed > 0 {
		s.Progress.BytesPerSecond = int64(math.Round(float64(done.stats.Done) / elapsed.Seconds()))
	}
	note := fmt.Sprintf("%d bytes by method %s", done.stats.Done, done.method)
	if t.Spec.Direction == api.Keep && done.image == "" {
		note = "the volume has to be read: " + done.differs
	}
	r.event(t, corev1.EventTypeNormal, "TransferSucceeded", fmt.Sprintf("%s of %s/%s: %s",
		t.Spec.Direction, t.Spec.Volume.Namespace, t.Spec.Volume.Name, note))
}

func (r *runner) markFailed(t *api.VolumeTransfer, stats snapshot.Stats, err error) {
	now := metav1.NewTime(r.now())
	s := &t.Status
	s.Heartbeat = &now
	s.Progress = counts(stats)
	s.LastFailure, s.LastFailed = err.Error(), &now
	switch {
	case isLasting(err, s.Attempts):
		s.Phase, s.FinishTime, s.Message = api.TransferFailed, &now, err.Error()
	case hopeless(*s, now.Time, r.cfg.Patience):
		s.Phase, s.FinishTime = api.TransferFailed, &now
		s.Message = fmt.Sprintf("given up after %d attempts, since it gets no further: %v", s.Attempts, err)
	default:
		s.Phase = api.TransferPending
		s.Message = fmt.Sprintf("attempt %d failed and is repeated at %s: %v", s.Attempts, pause(*s).UTC().Format(time.TimeOnly), err)
	}
	r.event(t, corev1.EventTypeWarning, "TransferFailed", s.Message)
}

// write stores the status, however long the API server is away: another attempt
// would only do the same work again.
func (r *runner) write(ctx context.Context, t *api.VolumeTransfer) {
	tick := time.NewTicker(tellInterval)
	defer tick.Stop()
	for {
		err := r.writeOnce(ctx, t)
		if err == nil {
			return
		}
		log.FromContext(ctx).Error(err, "result of the transfer was not written and is tried again", "transfer", t.Name)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (r *runner) writeOnce(ctx context.Context, t *api.VolumeTransfer) error {
	var now api.VolumeTransfer
	err := r.live.Get(ctx, client.ObjectKeyFromObject(t), &now)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err != nil || now.UID != t.UID {
		return nil // It is gone, and with it whoever wants to know.
	}
	before := now.DeepCopy()
	now.Status = t.Status
	err = r.client.Status().Patch(ctx, &now, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	return client.IgnoreNotFound(err)
}

func (r *runner) event(t *api.VolumeTransfer, kind, reason, note string) {
	const longest = 1000 // The API refuses longer ones.
	if len(note) > longest {
		note = note[:longest]
	}
	r.events.Eventf(t, nil, kind, reason, string(t.Spec.Direction), "%s", note)
}

// joinClose closes c and keeps the first error.
func joinClose(err *error, what string, closing error) {
	if closing != nil {
		*err = errors.Join(*err, fmt.Errorf("close %s: %w", what, closing))
	}
}
