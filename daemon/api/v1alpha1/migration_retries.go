package v1alpha1

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Bounds of Retries: a status has to fit into one object.
const (
	mostRetries = 100
	longestText = 300
)

// Retry tells how often one thing was tried again, and why.
type Retry struct {
	// Stage is what was tried: an action of the Migration, such as TakeSnapshots,
	// Upload or SealRound, or one of its standby, such as BringForward or HandOver; or
	// what was waited for, such as PairNotReady, each time it was looked for again.
	Stage string `json:"stage"`
	// Cluster is where: Source or Target.
	Cluster HookCluster `json:"cluster"`
	// Volume is namespace/name of the claim, for what a node tried again; empty for
	// what the controller did.
	// +optional
	Volume string `json:"volume,omitempty"`
	// Count is how often it was tried again.
	Count int32 `json:"count"`
	// Reason is why, the last time.
	Reason string `json:"reason"`
	// First and Last are when.
	First metav1.Time `json:"first"`
	Last  metav1.Time `json:"last"`
}

// RetryStatus tells of all that was tried again.
type RetryStatus struct {
	// Retries tell what was tried again, how often and why. Of very many the oldest
	// are left out.
	// +optional
	// +listType=atomic
	Retries []Retry `json:"retries,omitempty"`
}

// Retried notes what was tried again: once more where r has no count, else as often as
// r says and at least as often as before. It reports whether it is the first time.
func (s *RetryStatus) Retried(r Retry) (first bool) {
	r.Stage, r.Volume, r.Reason = bounded(r.Stage), bounded(r.Volume), bounded(r.Reason)
	i := slices.IndexFunc(s.Retries, func(there Retry) bool {
		return there.Stage == r.Stage && there.Cluster == r.Cluster && there.Volume == r.Volume
	})
	if i < 0 {
		r.Count = max(r.Count, 1)
		if r.First.IsZero() {
			r.First = r.Last
		}
		s.Retries = append(s.Retries, r)
		s.forgetOldest()
		return true
	}
	there := &s.Retries[i]
	switch {
	case r.Count == 0:
		there.Count++
	case r.Count <= there.Count && r.Reason == there.Reason:
		return false
	default:
		there.Count = max(there.Count, r.Count)
	}
	there.Reason, there.Last = r.Reason, r.Last
	return false
}

// bounded cuts what is too long. Half a letter is no text, and cannot be sent to
// another cluster.
func bounded(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), longestText)], "")
}

func (s *RetryStatus) forgetOldest() {
	if len(s.Retries) <= mostRetries {
		return
	}
	oldest := 0
	for i, r := range s.Retries {
		if r.Last.Before(&s.Retries[oldest].Last) {
			oldest = i
		}
	}
	s.Retries = slices.Delete(s.Retries, oldest, oldest+1)
}
