package main

import (
	"fmt"
	"hash/fnv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
)

// tellingManager gives recorders that keep events apart.
type tellingManager struct{ ctrl.Manager }

// GetEventRecorder returns a recorder by that name.
func (m tellingManager) GetEventRecorder(name string) events.EventRecorder {
	return newTelling(m.Manager.GetEventRecorder(name))
}

// As many events of one object and reason are kept apart at once, and one more in so
// many seconds, as client-go's older recorder lets an object have.
const (
	apartAtOnce  = 25
	apartEvery   = 300
	apartObjects = 4096
)

// telling keeps events apart that say different things of an object. For client-go
// those of one reason and one action are one event, which goes on saying what was said
// first: of two hooks that succeeded, or two kinds that cannot be read, nobody would
// hear of the second. Words that change each time, such as an error with a port, must
// not fill the cluster's store all the same.
type telling struct {
	events.EventRecorder
	spam *record.EventSourceObjectSpamFilter
}

func newTelling(r events.EventRecorder) telling {
	key := func(e *corev1.Event) string {
		o := e.InvolvedObject
		return fmt.Sprintf("%s %s/%s %s", o.UID, o.Namespace, o.Name, e.Reason)
	}
	return telling{r, record.NewEventSourceObjectSpamFilter(apartObjects, apartAtOnce, 1./apartEvery, clock.RealClock{}, key)}
}

// Eventf records.
func (t telling) Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any) {
	said := fmt.Sprintf(note, args...)
	about, err := meta.Accessor(regarding)
	if err == nil && !t.spam.Filter(&corev1.Event{
		InvolvedObject: corev1.ObjectReference{Namespace: about.GetNamespace(), Name: about.GetName(), UID: about.GetUID()}, Reason: reason,
	}) {
		sum := fnv.New32a()
		_, _ = sum.Write([]byte(said)) // A hash takes everything.
		action = fmt.Sprintf("%s-%08x", action, sum.Sum32())
	}
	t.EventRecorder.Eventf(regarding, related, kind, reason, action, "%s", said)
}
