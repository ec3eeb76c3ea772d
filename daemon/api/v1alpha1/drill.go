package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// DrillPhase tells how far a drill is.
// +kubebuilder:validation:Enum="";Waiting;Opening;Starting;Succeeded;Failed;Clearing
type DrillPhase string

// The phases.
const (
	// DrillWaiting is for its time, or for a round to open.
	DrillWaiting DrillPhase = "Waiting"
	// DrillOpening brings volumes and objects up.
	DrillOpening DrillPhase = "Opening"
	// DrillStarting waits for the workloads.
	DrillStarting DrillPhase = "Starting"
	// DrillSucceeded and DrillFailed are results; what was opened is still there.
	DrillSucceeded DrillPhase = "Succeeded"
	DrillFailed    DrillPhase = "Failed"
	// DrillClearing removes what was opened.
	DrillClearing DrillPhase = "Clearing"
)

// Drill opens a recovery point of a standby in namespaces of its own, closed to
// all others, and sees whether the application comes up, while replication goes on.
// Deleting it removes all that it opened.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=godwit
// +kubebuilder:printcolumn:name="Standby",type=string,JSONPath=`.spec.standby`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Round",type=string,JSONPath=`.status.round`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.ready`
// +kubebuilder:printcolumn:name="Seconds",type=integer,JSONPath=`.status.seconds`
// +kubebuilder:printcolumn:name="Last-Success",type=date,JSONPath=`.status.lastSuccess`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Drill struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   DrillSpec   `json:"spec"`
	Status DrillStatus `json:"status,omitempty"`
}

// DrillSpec says what to open, and where.
type DrillSpec struct {
	// Standby is the one to try, in this namespace.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a drill is of one standby: make another"
	Standby string `json:"standby"`
	// Round is the recovery point to open; the one that the standby holds when empty.
	// +optional
	Round string `json:"round,omitempty"`
	// Namespaces says for each of the application's namespaces in which one it is
	// opened. Those are made for the drill, and removed with it.
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the namespaces cannot change: make another drill"
	// +kubebuilder:validation:XValidation:rule="self.all(k, self[k] != k && !(self[k] in self))",message="a drill is opened beside the application, not in its namespaces"
	Namespaces map[string]string `json:"namespaces"`
	// DeadlineSeconds is how long it may take from its start until all pods are ready.
	// +optional
	// +kubebuilder:default=3600
	// +kubebuilder:validation:Minimum=1
	DeadlineSeconds int64 `json:"deadlineSeconds,omitempty"`
	// IntervalHours repeats the drill, from start to start. What one opened is then
	// removed as soon as its result is known.
	// +optional
	// +kubebuilder:validation:Minimum=1
	IntervalHours int64 `json:"intervalHours,omitempty"`
}

// MostDrillResults is how many results a Drill remembers.
const MostDrillResults = 10

// DrillStatus tells how it fares.
type DrillStatus struct {
	// +optional
	Phase DrillPhase `json:"phase,omitempty"`
	// Round that is opened, or was last.
	// +optional
	Round string `json:"round,omitempty"`
	// Ready counts what is ready of what the workloads want, such as 2/3.
	// +optional
	Ready string `json:"ready,omitempty"`
	// Seconds is what it took from its start until all pods were ready.
	// +optional
	Seconds int64 `json:"seconds,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
	// Started is when the run began that the rest speaks of, Ended when its result
	// was known.
	// +optional
	Started *metav1.Time `json:"started,omitempty"`
	// +optional
	Ended *metav1.Time `json:"ended,omitempty"`
	// LastSuccess is when a run last succeeded.
	// +optional
	LastSuccess *metav1.Time `json:"lastSuccess,omitempty"`
	// NextRun is when it runs again.
	// +optional
	NextRun *metav1.Time `json:"nextRun,omitempty"`
	// Results are the last ones, the newest first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	Results []DrillResult `json:"results,omitempty"`
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}

// DrillResult is what one run came to.
type DrillResult struct {
	Started metav1.Time `json:"started"`
	Round   string      `json:"round"`
	Success bool        `json:"success"`
	// +optional
	Seconds int64 `json:"seconds,omitempty"`
	// +optional
	Ready string `json:"ready,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
}

// StandbyDrill makes a Standby the copy of a drill: it reads a round for itself,
// keeps to the drill's namespaces, and is removed with all that it holds.
type StandbyDrill struct {
	// Name and UID are the Drill's.
	Name string    `json:"name"`
	UID  types.UID `json:"uid"`
	// Namespaces are the Drill's.
	Namespaces map[string]string `json:"namespaces"`
	// Standby is the one that is tried.
	Standby string `json:"standby"`
	// Snapshots, where the standby keeps some of the round, are what the volumes are
	// made from, instead of the repository.
	// +optional
	Snapshots []SnapshotOfClaim `json:"snapshots,omitempty"`
}

const (
	// LabelDrill is on namespaces and standbies of drills; its value is the Drill's uid.
	LabelDrill = "godwit.io/drill"
)

// DrillList is a list of Drill.
// +kubebuilder:object:root=true
type DrillList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Drill `json:"items"`
}
