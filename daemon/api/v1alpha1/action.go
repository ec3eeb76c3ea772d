package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ActionType is stork's word for what an Action does.
// +kubebuilder:validation:Enum=failover;failback
type ActionType string

// The types.
const (
	ActionFailover ActionType = "failover"
	ActionFailback ActionType = "failback"
)

// ActionStage is stork's word for how far an Action is. In a failback, source and
// destination are those of the schedule: it scales the destination down.
// +kubebuilder:validation:Enum="";ScaleDownDestination;ScaleDownSource;ScaleUpDestination;ScaleUpSource;LastMileMigration;WaitAfterScaleDown;Final
type ActionStage string

// The stages.
const (
	ActionStageInitial              ActionStage = ""
	ActionStageScaleDownDestination ActionStage = "ScaleDownDestination"
	ActionStageScaleDownSource      ActionStage = "ScaleDownSource"
	ActionStageScaleUpDestination   ActionStage = "ScaleUpDestination"
	ActionStageScaleUpSource        ActionStage = "ScaleUpSource"
	ActionStageLastMileMigration    ActionStage = "LastMileMigration"
	ActionStageFinal                ActionStage = "Final"
)

// ActionStatusType is stork's word for how an Action fares.
// +kubebuilder:validation:Enum="";Scheduled;In-Progress;Failed;Successful;RollbackSuccessful;RollbackFailed
type ActionStatusType string

// The values.
const (
	ActionStatusInitial    ActionStatusType = ""
	ActionStatusInProgress ActionStatusType = "In-Progress"
	ActionStatusFailed     ActionStatusType = "Failed"
	ActionStatusSuccessful ActionStatusType = "Successful"
)

// Action moves an application to the other side of its pair, with its source stopped
// first and nothing lost. A failover is made beside its MigrationSchedule, or on the
// target beside the copy of that, a failback where the application was activated.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=godwit
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.actionType`
// +kubebuilder:printcolumn:name="Stage",type=string,JSONPath=`.status.stage`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.status`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Action struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ActionSpec   `json:"spec"`
	Status ActionStatus `json:"status,omitempty"`
}

// ActionSpec says what to do.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="an Action does not change: make another"
// +kubebuilder:validation:XValidation:rule="self.actionType == 'failover' ? has(self.actionParameter.failoverParameter) : has(self.actionParameter.failbackParameter)",message="actionParameter must have the parameter of its actionType"
type ActionSpec struct {
	ActionType      ActionType      `json:"actionType"`
	ActionParameter ActionParameter `json:"actionParameter"`
}

// ActionParameter has the parameters of one type.
type ActionParameter struct {
	// +optional
	FailoverParameter *FailoverParameter `json:"failoverParameter,omitempty"`
	// +optional
	FailbackParameter *FailbackParameter `json:"failbackParameter,omitempty"`
}

// FailoverParameter says what moves away.
type FailoverParameter struct {
	// MigrationScheduleReference is a MigrationSchedule of this namespace, or the copy
	// of one.
	// +kubebuilder:validation:MinLength=1
	MigrationScheduleReference string `json:"migrationScheduleReference"`
	// FailoverNamespaces are the schedule's namespaces; all when empty. An application
	// moves as a whole: fewer than all are refused.
	// +optional
	FailoverNamespaces []string `json:"failoverNamespaces,omitempty"`
	// SkipSourceOperations, on the target, asks nothing of the source: the newest round
	// that it sealed is activated, and what was written there since is not in it.
	// Without it that is done only where the source does not answer.
	// +optional
	SkipSourceOperations *bool `json:"skipSourceOperations,omitempty"`
}

// FailbackParameter says what comes back.
type FailbackParameter struct {
	// MigrationScheduleReference is the application's name, that which follows the
	// namespace in "get standby".
	// +kubebuilder:validation:MinLength=1
	MigrationScheduleReference string `json:"migrationScheduleReference"`
	// FailbackNamespaces are the application's namespaces; all when empty. An
	// application moves as a whole: fewer than all are refused.
	// +optional
	FailbackNamespaces []string `json:"failbackNamespaces,omitempty"`
}

// ActionStatus tells how far it is.
type ActionStatus struct {
	// +optional
	Stage ActionStage `json:"stage"`
	// +optional
	Status ActionStatusType `json:"status"`
	// Reason says what it waits for, or why it failed.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Suspended says that the schedule was suspended for it: it goes on if the Action fails.
	// +optional
	Suspended bool `json:"suspended,omitempty"`
	// AskedSince is when the source was first asked, for a failover that was asked for
	// on the target; Started says that the source has taken the wish, and Activating
	// that the standby is activated without the source.
	// +optional
	AskedSince *metav1.Time `json:"askedSince,omitempty"`
	// +optional
	Started bool `json:"started,omitempty"`
	// +optional
	Activating bool `json:"activating,omitempty"`
	// +optional
	FinishTimestamp *metav1.Time `json:"finishTimestamp,omitempty"`
	// Summary tells how each namespace fared, once it is over.
	// +optional
	Summary *ActionSummary `json:"summary,omitempty"`
}

// ActionSummary has the summary of one type.
type ActionSummary struct {
	// +optional
	FailoverSummary []NamespaceSummary `json:"failoverSummary,omitempty"`
	// +optional
	FailbackSummary []NamespaceSummary `json:"failbackSummary,omitempty"`
}

// NamespaceSummary tells how one namespace fared.
type NamespaceSummary struct {
	Namespace string           `json:"namespace"`
	Status    ActionStatusType `json:"status"`
	// +optional
	Reason string `json:"reason,omitempty"`
}

// AnnotationAskedBy is on an Action that the target of its schedule asked for: the id
// of that cluster.
const AnnotationAskedBy = "godwit.io/asked-by"

// ActionList is a list of Action.
// +kubebuilder:object:root=true
type ActionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Action `json:"items"`
}
