package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// RuleActionType is the kind of an action.
// +kubebuilder:validation:Enum=command
type RuleActionType string

// RuleActionCommand runs a command in pods.
const RuleActionCommand RuleActionType = "command"

// Rule says what to run in an application's pods around its snapshots.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=godwit
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Rule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Rules are carried out one after another.
	// +kubebuilder:validation:MinItems=1
	Rules []RuleItem `json:"rules"`
}

// RuleItem is what to run in some of the pods.
type RuleItem struct {
	// PodSelector: the pods that have all of these labels.
	PodSelector map[string]string `json:"podSelector"`
	// Container to run in; the first one of the pod when empty.
	// +optional
	Container string `json:"container,omitempty"`
	// Actions are carried out one after another, each in all its pods at once.
	// +kubebuilder:validation:MinItems=1
	Actions []RuleAction `json:"actions"`
}

// RuleAction is one command.
type RuleAction struct {
	Type RuleActionType `json:"type"`
	// Background keeps the command running until the snapshots are taken. It has
	// to contain ${WAIT_CMD} where it shall wait for them. Only before snapshots.
	// +optional
	Background bool `json:"background,omitempty"`
	// RunInSinglePod runs it in one of the pods instead of all.
	// +optional
	RunInSinglePod bool `json:"runInSinglePod,omitempty"`
	// Value is what a shell in the container runs.
	// +kubebuilder:validation:MinLength=1
	Value string `json:"value"`
}

// RuleList is a list of Rule.
// +kubebuilder:object:root=true
type RuleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Rule `json:"items"`
}

// RuleTask is one command of a rule in one pod.
type RuleTask struct {
	// ID names the task in its pod.
	ID string `json:"id"`
	// Step orders tasks: those of one step run at once.
	Step      int    `json:"step"`
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	PodUID    string `json:"podUID"`
	Container string `json:"container"`
	// Command is what runs.
	Command string `json:"command"`
	// +optional
	Background bool `json:"background,omitempty"`
	// State is Planned, Started, Waiting (in the background), Done or Failed.
	// +optional
	State RuleTaskState `json:"state,omitempty"`
	// Message is what the command last printed, or what went wrong.
	// +optional
	Message string `json:"message,omitempty"`
	// Started is when it was started first.
	// +optional
	Started *metav1.Time `json:"started,omitempty"`
}

// RuleTaskState is how far a task is.
type RuleTaskState string

// The states of a task.
const (
	RuleTaskPlanned RuleTaskState = "Planned"
	RuleTaskStarted RuleTaskState = "Started"
	RuleTaskWaiting RuleTaskState = "Waiting"
	RuleTaskDone    RuleTaskState = "Done"
	RuleTaskFailed  RuleTaskState = "Failed"
)
