package main

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
)

// TestEventsSayDifferentThings goes through client-go's own recorder, which puts
// together what it takes for the same.
func TestEventsSayDifferentThings(t *testing.T) {
	client := fake.NewClientset()
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	if err := broadcaster.StartRecordingToSinkWithContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broadcaster.Shutdown)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "p"}}
	r := telling{broadcaster.NewRecorder(clientgoscheme.Scheme, "godwit")}
	for _, hook := range []string{"first", "second", "first", "second"} {
		r.Eventf(pod, nil, corev1.EventTypeNormal, "HookSucceeded", "Hook", "hook %s succeeded", hook)
	}
	deadline := time.Now().Add(10 * time.Second)
	for notes := map[string]int{}; notes["hook first succeeded"] != 1 || notes["hook second succeeded"] != 1; {
		if time.Now().After(deadline) {
			t.Fatalf("events: %v", notes)
		}
		time.Sleep(20 * time.Millisecond)
		all, err := client.EventsV1().Events("cms").List(context.Background(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		notes = map[string]int{}
		for _, e := range all.Items {
			notes[e.Note]++
		}
	}
}
