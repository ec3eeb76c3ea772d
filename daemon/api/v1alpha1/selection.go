package v1alpha1

// SelectionOptions say what of the namespaces is the application's.
type SelectionOptions struct {
	// IncludeNetworkPolicyWithCIDR also moves NetworkPolicies with an ipBlock.
	// +optional
	IncludeNetworkPolicyWithCIDR *bool `json:"includeNetworkPolicyWithCIDR,omitempty"`
	// Selectors: all of these labels must be on an object for it to move.
	// +optional
	Selectors map[string]string `json:"selectors,omitempty"`
	// ExcludeSelectors: any of these labels on an object leaves it out.
	// +optional
	ExcludeSelectors map[string]string `json:"excludeSelectors,omitempty"`
	// ExcludeResourceTypes are kinds to leave out.
	// +optional
	ExcludeResourceTypes []string `json:"excludeResourceTypes,omitempty"`
	// IncludeOptionalResourceTypes are kinds that are left out unless named, such as Job.
	// +optional
	IncludeOptionalResourceTypes []string `json:"includeOptionalResourceTypes,omitempty"`
	// IgnoreOwnerReferencesCheck also moves objects whose owner moves.
	// +optional
	IgnoreOwnerReferencesCheck *bool `json:"ignoreOwnerReferencesCheck,omitempty"`
	// ResourceSelectors: where there are any, only objects that match one of them
	// move, beside the namespaces and the claims with their volumes.
	// +optional
	ResourceSelectors []ResourceSelector `json:"resourceSelectors,omitempty"`
}

// StandbySelection is what of the namespaces the source takes for the application: what
// comes back from here is chosen by the same.
type StandbySelection struct {
	SelectionOptions `json:",inline"`
	// SkippedClaims, as namespace/name, stay where they are.
	// +optional
	SkippedClaims []string `json:"skippedClaims,omitempty"`
}
