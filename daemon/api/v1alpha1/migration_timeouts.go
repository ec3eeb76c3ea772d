package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Timeouts say how long a Migration may get no further at what it waits for. What
// moves, however slowly, is never ended by them, and only time counts in which Godwit
// looked. A transfer that a node works on is bounded by the node (--patience), a hook by
// its deadline, a rule by --rule-limit.
type Timeouts struct {
	// Unreachable bounds the wait for a pair that is not ready, for a cluster or an
	// object store that does not answer, and for all that fails and is tried again.
	// Once the target was told of the round it is waited for without end: it may have
	// started the application. 1h when not set.
	// +optional
	Unreachable *metav1.Duration `json:"unreachable,omitempty"`
	// Quiesce bounds the wait for pods of the source that do not end. 1h when not set.
	// +optional
	Quiesce *metav1.Duration `json:"quiesce,omitempty"`
	// Snapshots bounds the wait for snapshots that do not get ready; some storage
	// uploads them first. 24h when not set.
	// +optional
	Snapshots *metav1.Duration `json:"snapshots,omitempty"`
	// Exposure bounds the wait for volumes of the source that no node gets, and for
	// transfers that no node works on. 6h when not set.
	// +optional
	Exposure *metav1.Duration `json:"exposure,omitempty"`
	// Target bounds each wait of the target: for its volumes, for their hand-over and for
	// objects that are not taken. 6h when not set.
	// +optional
	Target *metav1.Duration `json:"target,omitempty"`
	// Start bounds the wait for the first pod of the target to be ready; a Migration in
	// which none is ends as PartialSuccess. Without it the wait only measures the
	// downtime: it is 2m, and says nothing about the end.
	// +optional
	Start *metav1.Duration `json:"start,omitempty"`
}

// Waiting tells how long a Migration or a standby has got no further.
type Waiting struct {
	// For is what it waits for: one of the fields of spec.timeouts, Hook or Rules; for a
	// standby, its action.
	For string `json:"for"`
	// Message names the object that is waited for.
	// +optional
	Message string `json:"message,omitempty"`
	// Limit is how long it may stand still.
	Limit metav1.Duration `json:"limit"`
	// Since is when it last got further, Furthest how far that was, by a count of its own.
	Since metav1.Time `json:"since"`
	// +optional
	Furthest int64 `json:"furthest,omitempty"`
	// Stood is what counts against the limit: the time since then in which Godwit
	// looked, up to Seen.
	Stood metav1.Duration `json:"stood"`
	Seen  metav1.Time     `json:"seen"`
}
