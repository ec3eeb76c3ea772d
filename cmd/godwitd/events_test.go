package main

import (
	"context"
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
)

// written is an API server that tells of each write: "+" of a new event, and "~" of
// one that was there.
type written chan string

func (w written) Create(_ context.Context, e *eventsv1.Event) (*eventsv1.Event, error) {
	w <- "+" + e.Note
	return e, nil
}

func (w written) Update(_ context.Context, e *eventsv1.Event) (*eventsv1.Event, error) {
	w <- "~" + e.Note
	return e, nil
}

func (w written) Patch(_ context.Context, e *eventsv1.Event, _ []byte) (*eventsv1.Event, error) {
	w <- "~" + e.Note
	return e, nil
}

// recorder is client-go's own recorder, which puts together what it takes for the same.
func recorder(t *testing.T) (telling, written) {
	t.Helper()
	w := make(written, 1000)
	broadcaster := events.NewBroadcaster(w)
	if err := broadcaster.StartRecordingToSinkWithContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broadcaster.Shutdown)
	return newTelling(broadcaster.NewRecorder(clientgoscheme.Scheme, "godwit")), w
}

func TestEventsSayDifferentThings(t *testing.T) {
	r, w := recorder(t)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "p", UID: "1"}}
	for _, hook := range []string{"first", "second", "first", "second"} {
		r.Eventf(pod, nil, corev1.EventTypeNormal, "HookSucceeded", "Hook", "hook %s succeeded", hook)
	}
	got := map[string]int{}
	for range 4 {
		got[<-w]++
	}
	want := map[string]int{"+hook first succeeded": 1, "+hook second succeeded": 1, "~hook first succeeded": 1, "~hook second succeeded": 1}
	if !maps.Equal(got, want) {
		t.Errorf("written: %v", got)
	}
}

// actions are those that events were recorded with.
type actions map[string]int

func (a actions) Eventf(_, _ runtime.Object, _, _, action, _ string, _ ...any) { a[action]++ }

// TestEventsAreBounded says another thing each time, and then one of another object.
func TestEventsAreBounded(t *testing.T) {
	got := actions{}
	r := newTelling(got)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "p", UID: "1"}}
	for i := range 200 {
		r.Eventf(pod, nil, corev1.EventTypeWarning, "Retrying", "Retry", "port %d was closed", i)
	}
	if got["Retry"] < 200-apartAtOnce-1 {
		t.Errorf("%d of 200 events of one object and reason are kept apart", 200-got["Retry"])
	}
	clear(got)
	for range 200 {
		r.Eventf(pod, nil, corev1.EventTypeWarning, "Other", "Retry", "the same")
	}
	r.Eventf(pod, nil, corev1.EventTypeWarning, "Other", "Retry", "another")
	if len(got) != 2 || got["Retry"] != 0 {
		t.Errorf("what was said before took the room: %v", got)
	}
	clear(got)
	pod.UID = "2"
	r.Eventf(pod, nil, corev1.EventTypeWarning, "Retrying", "Retry", "port 1 was closed")
	if got["Retry"] != 0 {
		t.Error("another object's first event is not kept apart")
	}
}
