package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/cbt"
)

// patientAttempts is how many attempts are spent on a storage that does not
// answer before the volume is read without its help: what may pass in a minute
// is not worth hours of reading.
const patientAttempts = 2

// Tracker knows how to ask storages about snapshots.
type Tracker interface {
	// About returns what answers for a snapshot. Its error is a *cbt.Error where
	// nobody can be asked.
	About(ctx context.Context, s api.TransferSnapshot) (Answers, error)
}

// Answers are those of a storage about one snapshot. Errors are *cbt.Error.
type Answers interface {
	Allocated(ctx context.Context) (cbt.Map, error)
	Delta(ctx context.Context, base string) (cbt.Map, error)
	Close() error
}

// The reasons for which a rung was missed, beside those of package cbt.
const (
	reasonNoSnapshot = "NoSnapshot"
	reasonNoBase     = "NoBase"
	reasonForeign    = "ForeignBase"
	reasonNoHoles    = "NotToldByDevice"
)

// rung is one way to know what to read of a device.
type rung struct {
	method  snapshot.Method
	extents []snapshot.Extent
	// parent has what is not read, by MethodDelta.
	parent snapshot.ImageID
	// why says in words where extents came from.
	why string
}

// miss is a rung that could not be used.
type miss struct {
	rung, reason, why string
	// expected says that it was asked for, so that missing it is worth a warning.
	expected bool
}

// ladder finds the best rung of a transfer, and remembers those above it.
type ladder struct {
	*attempt
	source Source
	// answers is nil where no storage can be asked.
	answers Answers
	missed  []miss
}

// climb tries each rung from the top and reads by the first that holds. A base
// may turn out to be gone only when the image is made.
func (l *ladder) climb(ctx context.Context, read func(context.Context, rung) error) (err error) {
	if err := l.open(ctx); err != nil {
		return err
	}
	if l.answers != nil {
		defer func() { joinClose(&err, "the connection to the storage", l.answers.Close()) }()
	}
	for _, step := range []func(context.Context) (*rung, error){l.delta, l.allocated, l.holes} {
		found, err := step(ctx)
		if err != nil {
			return err
		}
		if found == nil {
			continue
		}
		l.told(ctx, *found)
		err = read(ctx, *found)
		if found.method != snapshot.MethodDelta || !errors.Is(err, snapshot.ErrNoBase) {
			return err
		}
		l.miss("delta", string(cbt.BaseGone), fmt.Sprintf("image %s is not in the repository any more", found.parent), true)
	}
	scan := rung{method: snapshot.MethodScan, why: "every byte is read"}
	l.told(ctx, scan)
	return read(ctx, scan)
}

func (l *ladder) miss(rung, reason, why string, expected bool) {
	l.missed = append(l.missed, miss{rung, reason, why, expected})
}

// open finds whom to ask about the snapshot.
func (l *ladder) open(ctx context.Context) error {
	s := l.transfer.Spec.Snapshot
	if s == nil || l.cfg.Tracker == nil {
		l.miss("changed blocks", reasonNoSnapshot, "the transfer names no snapshot that a storage could be asked about", true)
		return nil
	}
	answers, err := l.cfg.Tracker.About(ctx, *s)
	if err != nil {
		return l.refused(ctx, "changed blocks", err)
	}
	l.answers = answers
	return nil
}

// refused notes why a storage did not answer. It returns an error where that is
// worth another attempt.
func (l *ladder) refused(ctx context.Context, rung string, err error) error {
	reason := cbt.ReasonOf(err)
	passing := reason == "" || reason == cbt.Unreachable || reason == cbt.Broken
	if ctx.Err() != nil || passing && l.transfer.Status.Attempts < patientAttempts {
		return err
	}
	if reason == "" {
		reason = cbt.Unreachable
	}
	l.miss(rung, string(reason), err.Error(), true)
	return nil
}

// doubted notes that an answer was found to be wrong. A device or an image that
// could not be read is no fault of the answer.
func (l *ladder) doubted(ctx context.Context, rung string, err error) error {
	if cbt.ReasonOf(err) == "" {
		return err
	}
	return l.refused(ctx, rung, err)
}

// delta asks what changed since the base.
func (l *ladder) delta(ctx context.Context) (*rung, error) {
	base := l.transfer.Spec.Base
	if l.answers == nil {
		return nil, nil
	}
	if base == nil {
		l.miss("delta", reasonNoBase, cmp.Or(l.transfer.Spec.NoBase, "no base was given"), false)
		return nil, nil
	}
	parent, gone, err := l.baseImage(ctx)
	if err != nil {
		return nil, err
	}
	if gone != nil {
		l.missed = append(l.missed, *gone)
		return nil, nil
	}
	m, err := l.answers.Delta(ctx, base.SnapshotHandle)
	if err != nil {
		return nil, l.refused(ctx, "delta", err)
	}
	extents, err := m.Cover(l.source.Size())
	if err == nil {
		err = l.witnessDelta(ctx, parent, extents)
	}
	if err != nil {
		return nil, l.doubted(ctx, "delta", err)
	}
	return &rung{
		method: snapshot.MethodDelta, extents: extents, parent: parent.ID,
		why: fmt.Sprintf("the storage told that %d bytes changed since image %s", m.Bytes(), parent.ID),
	}, nil
}

// allocated asks what holds data at all.
func (l *ladder) allocated(ctx context.Context) (*rung, error) {
	if l.answers == nil {
		return nil, nil
	}
	m, err := l.answers.Allocated(ctx)
	if err != nil {
		return nil, l.refused(ctx, "allocated blocks", err)
	}
	extents, err := m.Cover(l.source.Size())
	if err == nil {
		err = l.witnessZeros(ctx, extents)
	}
	if err != nil {
		return nil, l.doubted(ctx, "allocated blocks", err)
	}
	return &rung{
		method: snapshot.MethodAllocated, extents: extents,
		why: fmt.Sprintf("the storage told that %d of %d bytes are allocated", m.Bytes(), m.Capacity),
	}, nil
}

// holes asks the device itself, which knows where it is a file.
func (l *ladder) holes(context.Context) (*rung, error) {
	extents, err := l.source.Allocated()
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		l.miss("holes", reasonNoHoles, "the device does not tell what it has allocated", false)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("list what the device has allocated: %w", err)
	case extents == nil:
		// The engine takes nil for the whole volume, and none is what is meant.
		extents = []snapshot.Extent{}
	}
	return &rung{method: snapshot.MethodAllocated, extents: extents, why: "the file that the volume is tells what it has allocated"}, nil
}

// explain says how the rung was come to.
func (l *ladder) explain(r rung) string {
	why := []string{r.why}
	for _, m := range l.missed {
		why = append(why, fmt.Sprintf("no %s (%s): %s", m.rung, m.reason, m.why))
	}
	return strings.Join(why, "; ")
}

// worst is the reason of the first rung that was expected and missed.
func (l *ladder) worst() string {
	for _, m := range l.missed {
		if m.expected {
			return m.reason
		}
	}
	return ""
}

// told says which rung is used, in an event, in a condition and in the status,
// before a byte is read: who waits for a long scan wants to know why.
func (l *ladder) told(ctx context.Context, r rung) {
	why, reason := l.explain(r), l.worst()
	l.note(ctx, r.method, why, reason)
	note := fmt.Sprintf("volume %s/%s is read by method %s: %s", l.transfer.Spec.Volume.Namespace, l.transfer.Spec.Volume.Name, r.method, why)
	if reason == "" {
		l.event(l.transfer, corev1.EventTypeNormal, "MethodChosen", note)
	} else {
		l.event(l.transfer, corev1.EventTypeWarning, "SteppedDown", note)
	}
}

// note writes the method into the status. What is not written now is written
// with the result.
func (a *attempt) note(ctx context.Context, method snapshot.Method, why, missed string) {
	a.missed = missed
	s := &a.transfer.Status
	before := a.transfer.DeepCopy()
	s.Method, s.MethodReason = string(method), why
	condition := metav1.Condition{
		Type: api.ConditionBestMethod, Status: metav1.ConditionTrue, Reason: string(method), Message: shorten(why),
		ObservedGeneration: a.transfer.Generation,
	}
	if missed != "" {
		condition.Status, condition.Reason = metav1.ConditionFalse, missed
	}
	meta.SetStatusCondition(&s.Conditions, condition)
	told := a.transfer.DeepCopy() // a patch reads the object back
	if err := a.client.Status().Patch(ctx, told, client.MergeFrom(before)); err != nil && ctx.Err() == nil {
		log.FromContext(ctx).Info("the method was not written", "transfer", a.transfer.Name, "error", err.Error())
	}
}

// shorten keeps to what a condition's message may have.
func shorten(text string) string {
	const longest = 2000
	if len(text) > longest {
		return text[:longest] + "…"
	}
	return text
}
