package main

import (
	"fmt"
	"hash/fnv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"
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
	apartAtOnce = 25
	apartEvery  = 300
	apartKnown  = 4096
)

// telling keeps events apart that say different things of an object. For client-go
// those of one reason and one action are one event, which goes on saying what was said
// first: of two hooks that succeeded, or two kinds that cannot be read, nobody would
// hear of the second. Words that change each time, such as an error with a port, must
// not fill the cluster's store all the same.
type telling struct {
	events.EventRecorder
	// apart are the actions of events that are kept apart: what is said again takes no room.
	apart *lru.Cache
	spam  *record.EventSourceObjectSpamFilter
}

func newTelling(r events.EventRecorder) telling {
	return telling{r, lru.New(apartKnown), record.NewEventSourceObjectSpamFilter(apartKnown, apartAtOnce, 1./apartEvery, clock.RealClock{}, aboutWhat)}
}

// aboutWhat is the object and the reason of an event.
func aboutWhat(e *corev1.Event) string {
	o := e.InvolvedObject
	return fmt.Sprintf("%s %s/%s %s", o.UID, o.Namespace, o.Name, e.Reason)
}

// Eventf records.
func (t telling) Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any) {
	said := fmt.Sprintf(note, args...)
	if about, err := meta.Accessor(regarding); err == nil {
		action = t.actionOf(about, reason, action, said)
	}
	t.EventRecorder.Eventf(regarding, related, kind, reason, action, "%s", said)
}

// actionOf is another one for other words, as long as there is room.
func (t telling) actionOf(about metav1.Object, reason, action, said string) string {
	event := &corev1.Event{
		InvolvedObject: corev1.ObjectReference{Namespace: about.GetNamespace(), Name: about.GetName(), UID: about.GetUID()}, Reason: reason,
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(said)) // A hash takes everything.
	own := fmt.Sprintf("%s-%08x", action, sum.Sum32())
	key := aboutWhat(event) + " " + own
	if _, known := t.apart.Get(key); !known && t.spam.Filter(event) {
		return action
	}
	t.apart.Add(key, nil)
	return own
}
