package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TransferLimitName is the name of the one TransferLimit that counts.
const TransferLimitName = "default"

// TransferLimit bounds what the transfers of each node do together. There is
// one, named default, in Godwit's own namespace; without it nothing is bound.
// Changes count at once, also for transfers that are under way.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=godwit
// +kubebuilder:validation:XValidation:rule="self.metadata.name == 'default'",message="only the TransferLimit named default counts"
// +kubebuilder:printcolumn:name="Store-Bytes",type=string,JSONPath=`.spec.store.bytesPerSecond`
// +kubebuilder:printcolumn:name="Store-Requests",type=integer,JSONPath=`.spec.store.requestsPerSecond`
// +kubebuilder:printcolumn:name="Volume-Bytes",type=string,JSONPath=`.spec.volumes.bytesPerSecond`
// +kubebuilder:printcolumn:name="Paused",type=boolean,JSONPath=`.spec.store.paused`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type TransferLimit struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec TransferLimitSpec `json:"spec"`
}

// TransferLimitSpec is rates, and others for parts of the day.
type TransferLimitSpec struct {
	// Store bounds what goes to and comes from object stores.
	// +optional
	Store TransferRate `json:"store,omitempty"`
	// Volumes bounds what is read from and written to volumes, but for volumes
	// that are carried as files: those are bound by Store alone.
	// +optional
	Volumes TransferRate `json:"volumes,omitempty"`
	// Windows have rates of their own for some hours of each day. Where they
	// overlap, the first counts.
	// +optional
	// +kubebuilder:validation:MaxItems=24
	Windows []TransferWindow `json:"windows,omitempty"`
	// TimeZone is where the windows' times of day are, such as Europe/Madrid;
	// UTC when empty.
	// +optional
	TimeZone string `json:"timeZone,omitempty"`
}

// TransferRate bounds one node; what it leaves out is not bound.
type TransferRate struct {
	// BytesPerSecond such as 20Mi; more than nothing.
	// +optional
	BytesPerSecond *resource.Quantity `json:"bytesPerSecond,omitempty"`
	// RequestsPerSecond counts requests to a store, or reads and writes of a volume.
	// +optional
	// +kubebuilder:validation:Minimum=1
	RequestsPerSecond int64 `json:"requestsPerSecond,omitempty"`
	// Paused lets nothing pass at all; outside of windows it means in them too.
	// +optional
	Paused bool `json:"paused,omitempty"`
}

// TransferWindow is a part of each day. One whose To is not after its From ends
// on the next day.
type TransferWindow struct {
	// From is a time of day, such as 08:00.
	// +kubebuilder:validation:Pattern=`^([01][0-9]|2[0-3]):[0-5][0-9]$`
	From string `json:"from"`
	// To is a time of day, such as 18:30; 24:00 is midnight too.
	// +kubebuilder:validation:Pattern=`^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$`
	To string `json:"to"`
	// Store is as outside the window when it is not set.
	// +optional
	Store *TransferRate `json:"store,omitempty"`
	// Volumes is as outside the window when it is not set.
	// +optional
	Volumes *TransferRate `json:"volumes,omitempty"`
}

// TransferLimitList is a list of TransferLimit.
// +kubebuilder:object:root=true
type TransferLimitList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TransferLimit `json:"items"`
}
