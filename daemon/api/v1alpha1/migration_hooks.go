package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// HookPhase says when a hook runs.
// +kubebuilder:validation:Enum=PreBackup;PostBackup;PreRestore;PostRestore
type HookPhase string

// The phases, in order.
const (
	// HookPreBackup is before anything is stopped or copied.
	HookPreBackup HookPhase = "PreBackup"
	// HookPostBackup is once the round is sealed in the repository.
	HookPostBackup HookPhase = "PostBackup"
	// HookPreRestore is before the target is told of the round.
	HookPreRestore HookPhase = "PreRestore"
	// HookPostRestore is once the application is on the target.
	HookPostRestore HookPhase = "PostRestore"
)

// HookCluster says where a hook runs.
// +kubebuilder:validation:Enum=Source;Target
type HookCluster string

// The clusters.
const (
	HookSource HookCluster = "Source"
	HookTarget HookCluster = "Target"
)

// HookFailure says what becomes of a Migration whose hook failed.
// +kubebuilder:validation:Enum=Abort;Continue
type HookFailure string

// The two ways.
const (
	// HookAbort ends the Migration. After PostRestore there is nothing left to end:
	// the Migration is a PartialSuccess then, and later hooks do not run.
	HookAbort HookFailure = "Abort"
	// HookContinue goes on, with an event.
	HookContinue HookFailure = "Continue"
)

// Hook is a Job that runs once in a Migration.
// +kubebuilder:validation:XValidation:rule="has(self.playbook) || has(self.image)",message="name an image, or a playbook"
type Hook struct {
	// Name tells it from the Migration's other hooks.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// Phase: hooks of one phase run one after another, in their order. A stage run
	// hands nothing over, and runs none of PreRestore and PostRestore.
	Phase HookPhase `json:"phase"`
	// Cluster that it runs on. Unless set, PreBackup and PostBackup run on the
	// source, PreRestore and PostRestore on the target.
	// +optional
	Cluster HookCluster `json:"cluster,omitempty"`
	// Namespace of the Job; unless set, the Migration's, by its name on that cluster.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// ServiceAccountName in that namespace; unless set, default.
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
	// SecurityContext says as which user the pod runs; unless set, as the image says.
	// +optional
	SecurityContext *HookSecurityContext `json:"securityContext,omitempty"`
	// Image that the Job runs; for a playbook, instead of the installation's hook runner.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Image string `json:"image,omitempty"`
	// Command and Args are the container's. Unless set, a playbook is run by
	// ansible-playbook, and an image by its own entry point.
	// +optional
	Command []string `json:"command,omitempty"`
	// +optional
	Args []string `json:"args,omitempty"`
	// Playbook is an Ansible playbook for the Job to run.
	// +optional
	Playbook *HookPlaybook `json:"playbook,omitempty"`
	// BackoffLimit is how many times a failed pod is tried again.
	// +optional
	// +kubebuilder:default=6
	// +kubebuilder:validation:Minimum=0
	BackoffLimit *int32 `json:"backoffLimit,omitempty"`
	// Deadline is how long the Job may take with all its tries.
	// +optional
	// +kubebuilder:default="1h"
	Deadline *metav1.Duration `json:"deadline,omitempty"`
	// OnFailure says what becomes of the Migration.
	// +optional
	// +kubebuilder:default=Abort
	OnFailure HookFailure `json:"onFailure,omitempty"`
}

// HookSecurityContext is what a hook's pod may choose of its user.
type HookSecurityContext struct {
	// RunAsUser is the user's number.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self > 0",message="a hook's pod does not run as root"
	// +kubebuilder:validation:Maximum=2147483647
	RunAsUser *int64 `json:"runAsUser,omitempty"`
	// RunAsGroup is the number of its group.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	RunAsGroup *int64 `json:"runAsGroup,omitempty"`
	// FSGroup is the number of the group to which the pod's volumes belong.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2147483647
	FSGroup *int64 `json:"fsGroup,omitempty"`
}

// HookPlaybook is a ConfigMap on the source with an Ansible playbook, and with
// what else the playbook reads. All of it is mounted at /godwit/hook.
type HookPlaybook struct {
	// ConfigMap in the Migration's namespace.
	// +kubebuilder:validation:MinLength=1
	ConfigMap string `json:"configMap"`
	// Key of the playbook.
	// +optional
	// +kubebuilder:default=playbook.yml
	Key string `json:"key,omitempty"`
}

// HookOptions are what runs beside a Migration.
type HookOptions struct {
	// Hooks run as Jobs at certain points of the Migration.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +listType=map
	// +listMapKey=name
	Hooks []Hook `json:"hooks,omitempty"`
}

// HookState is how far a hook is.
type HookState string

// The states.
const (
	HookPending   HookState = "Pending"
	HookRunning   HookState = "Running"
	HookSucceeded HookState = "Succeeded"
	HookFailed    HookState = "Failed"
)

// HookStatus tells how one hook fares.
type HookStatus struct {
	Name    string      `json:"name"`
	Phase   HookPhase   `json:"phase"`
	Cluster HookCluster `json:"cluster"`
	// Namespace and Job are where it runs.
	Namespace string `json:"namespace"`
	// +optional
	Job   string    `json:"job,omitempty"`
	State HookState `json:"state"`
	// Message is what it waits for, or why it failed.
	// +optional
	Message string `json:"message,omitempty"`
	// Log is the end of what its last pod wrote.
	// +optional
	Log string `json:"log,omitempty"`
	// +optional
	Started *metav1.Time `json:"started,omitempty"`
	// +optional
	Finished *metav1.Time `json:"finished,omitempty"`
}
