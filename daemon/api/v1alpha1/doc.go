// Package v1alpha1 owns the Go types of Godwit's custom resources.
//
// Kinds and field names are those of stork.libopenstorage.org/v1alpha1 where
// stork has them; what stork lacks is an optional field. The package holds no
// logic, and never imports anything of Godwit.
//
// +kubebuilder:object:generate=true
// +groupName=godwit.io
package v1alpha1
