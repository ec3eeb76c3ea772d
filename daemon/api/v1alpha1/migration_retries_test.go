package v1alpha1_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// TestRetried: each stage and volume is counted by itself, what a node counts is taken
// as it says, and a status never grows without end.
func TestRetried(t *testing.T) {
	at := func(minute int) metav1.Time { return metav1.NewTime(time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC)) }
	var s api.RetryStatus
	if !s.Retried(api.Retry{Stage: "SealRound", Reason: "down", Last: at(1)}) || s.Retried(api.Retry{Stage: "SealRound", Reason: "refused", Last: at(2)}) {
		t.Error("the first time is not told from the next")
	}
	upload := api.Retry{Stage: "Upload", Volume: "shop/data", Count: 3, Reason: "reset", Last: at(3)}
	s.Retried(upload)
	s.Retried(upload)
	if len(s.Retries) != 2 || s.Retries[0].Count != 2 || s.Retries[0].Reason != "refused" || s.Retries[0].First != at(1) || s.Retries[0].Last != at(2) || s.Retries[1].Count != 3 {
		t.Errorf("retries: %+v", s.Retries)
	}
	for n := range 200 {
		s.Retried(api.Retry{Stage: "Upload", Volume: "shop/" + strings.Repeat("v", n+1), Reason: strings.Repeat("ü", 500), Last: at(4)})
	}
	if len(s.Retries) != 100 {
		t.Errorf("there are %d retries", len(s.Retries))
	}
	for _, r := range s.Retries {
		if r.Stage == "SealRound" || len(r.Reason) > 300 || !utf8.ValidString(r.Reason) {
			t.Errorf("kept: %+v", r)
		}
	}
}
