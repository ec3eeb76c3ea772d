package main

import (
	"fmt"
	"hash/fnv"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
)

// tellingManager gives recorders that tell everything.
type tellingManager struct{ ctrl.Manager }

// GetEventRecorder returns a recorder by that name.
func (m tellingManager) GetEventRecorder(name string) events.EventRecorder {
	return telling{m.Manager.GetEventRecorder(name)}
}

// telling keeps events apart that say different things of an object. For client-go
// those of one reason and one action are one event, which goes on saying what was said
// first: of two hooks that succeeded, or two kinds that cannot be read, nobody would
// hear of the second.
type telling struct{ events.EventRecorder }

// Eventf records.
func (t telling) Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any) {
	said := fmt.Sprintf(note, args...)
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(said)) // A hash takes everything.
	t.EventRecorder.Eventf(regarding, related, kind, reason, fmt.Sprintf("%s-%08x", action, sum.Sum32()), "%s", said)
}
