package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ConflictResolution says what becomes of an object that stands on the target already.
// +kubebuilder:validation:Enum=Abort;Skip;Overwrite;Recreate
type ConflictResolution string

// The resolutions.
const (
	// ConflictAbort names every field in dispute and its owner, and touches nothing.
	ConflictAbort ConflictResolution = "Abort"
	// ConflictSkip leaves the target's object as it is.
	ConflictSkip ConflictResolution = "Skip"
	// ConflictOverwrite takes the fields over that the source's object sets.
	ConflictOverwrite ConflictResolution = "Overwrite"
	// ConflictRecreate deletes the target's object and makes it anew. It is refused
	// for what holds data or other objects.
	ConflictRecreate ConflictResolution = "Recreate"
)

// ObjectOptions says how a Migration's objects are chosen, changed and applied.
type ObjectOptions struct {
	// DryRun finds out what would happen, and does nothing. The plan is in the status.
	// +optional
	DryRun *bool `json:"dryRun,omitempty"`
	// NamespaceMapping gives the target's namespace for each of the source; one
	// that is not named keeps its name. References in other objects follow.
	// +optional
	NamespaceMapping map[string]string `json:"namespaceMapping,omitempty"`
	// RewriteServiceNames also follows NamespaceMapping into DNS names of Services
	// in the environment and arguments of containers and in ConfigMaps.
	// +optional
	RewriteServiceNames *bool `json:"rewriteServiceNames,omitempty"`
	// ResourceModifiers are ConfigMaps in the Migration's namespace with Velero's
	// resource modifier rules.
	// +optional
	ResourceModifiers []string `json:"resourceModifiers,omitempty"`
	// Overrides change objects last, for one target.
	// +optional
	Overrides []ObjectOverride `json:"overrides,omitempty"`
	// ConflictResolution is for objects that stand on the target already.
	// +optional
	// +kubebuilder:default=Abort
	ConflictResolution ConflictResolution `json:"conflictResolution,omitempty"`
	// ConflictResolutionByKind is for single kinds: Deployment, deployments.apps.
	// +optional
	ConflictResolutionByKind map[string]ConflictResolution `json:"conflictResolutionByKind,omitempty"`
	// PreserveResourcesOnDeletion keeps what was applied on the target when the
	// Migration is deleted; false takes it back.
	// +optional
	// +kubebuilder:default=true
	PreserveResourcesOnDeletion *bool `json:"preserveResourcesOnDeletion,omitempty"`
}

// ResourceSelector names objects as a PropagationPolicy of Karmada does.
type ResourceSelector struct {
	// +kubebuilder:validation:MinLength=1
	APIVersion string `json:"apiVersion"`
	// +kubebuilder:validation:MinLength=1
	Kind string `json:"kind"`
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// +optional
	Name string `json:"name,omitempty"`
	// LabelSelector is not looked at where there is a Name.
	// +optional
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`
}

// ObjectOverride changes the objects that its selectors name.
type ObjectOverride struct {
	// ClusterPairs that it is for; none means any.
	// +optional
	ClusterPairs []string `json:"clusterPairs,omitempty"`
	// ResourceSelectors: one must match. Namespaces are the source's.
	// +kubebuilder:validation:MinItems=1
	ResourceSelectors []ResourceSelector `json:"resourceSelectors"`
	// Patch is YAML or JSON: a list is a JSON patch (RFC 6902), a map a merge
	// patch (RFC 7386).
	// +kubebuilder:validation:MinLength=1
	Patch string `json:"patch"`
}

// MigrationPlan is what a dry run found out.
type MigrationPlan struct {
	Create    int64 `json:"create"`
	Update    int64 `json:"update"`
	Unchanged int64 `json:"unchanged"`
	// Skip counts what stays as it is on the target.
	Skip int64 `json:"skip"`
	// LeftOut counts what does not move, by rule.
	LeftOut int64 `json:"leftOut"`
	// Problems that would make the run fail.
	// +optional
	Problems []string `json:"problems,omitempty"`
	// Details are for `godwitctl plan`: compressed JSON.
	// +optional
	Details []byte `json:"details,omitempty"`
}
