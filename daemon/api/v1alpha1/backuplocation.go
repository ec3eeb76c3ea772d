package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BackupLocationType is the kind of object store.
// +kubebuilder:validation:Enum=s3;azure;google;nfs
type BackupLocationType string

// The kinds of stores.
const (
	// S3Location is an object store that speaks S3.
	S3Location BackupLocationType = "s3"
	// AzureLocation is Azure's blob storage.
	AzureLocation BackupLocationType = "azure"
	// GoogleLocation is Google's cloud storage.
	GoogleLocation BackupLocationType = "google"
	// NFSLocation is a folder of an NFS server, which the chart's value nfs mounts.
	NFSLocation BackupLocationType = "nfs"
)

// BackupLocation says where repositories are kept, and with which keys.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=godwit
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.location.type`
// +kubebuilder:printcolumn:name="Path",type=string,JSONPath=`.location.path`
// +kubebuilder:printcolumn:name="Endpoint",type=string,JSONPath=`.location.s3Config.endpoint`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BackupLocation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Location BackupLocationItem   `json:"location"`
	Status   BackupLocationStatus `json:"status,omitempty"`
}

// BackupLocationItem is the body of a BackupLocation, as stork has it.
// +kubebuilder:validation:XValidation:rule="self.type == 's3' || !has(self.s3Config)",message="s3Config is for type s3"
// +kubebuilder:validation:XValidation:rule="self.type == 'azure' || !has(self.azureConfig)",message="azureConfig is for type azure"
// +kubebuilder:validation:XValidation:rule="self.type == 'google' || !has(self.googleConfig)",message="googleConfig is for type google"
// +kubebuilder:validation:XValidation:rule="self.type == 'nfs' || !has(self.nfsConfig)",message="nfsConfig is for type nfs"
type BackupLocationItem struct {
	Type BackupLocationType `json:"type"`
	// Path is the bucket or container, and after a slash an optional prefix in
	// it. For type nfs it is the folder that the server exports.
	// +kubebuilder:validation:MinLength=1
	Path string `json:"path"`
	// S3Config holds the parameters of an S3 store.
	// +optional
	S3Config *S3Config `json:"s3Config,omitempty"`
	// AzureConfig holds the parameters of a storage account of Azure.
	// +optional
	AzureConfig *AzureConfig `json:"azureConfig,omitempty"`
	// GoogleConfig holds the parameters of Google's cloud storage.
	// +optional
	GoogleConfig *GoogleConfig `json:"googleConfig,omitempty"`
	// NFSConfig holds the parameters of an NFS server.
	// +optional
	NFSConfig *NFSConfig `json:"nfsConfig,omitempty"`
	// SecretConfig names a Secret of this namespace whose keys stand in for the
	// fields of the same name that the config of the type leaves empty.
	// +optional
	SecretConfig string `json:"secretConfig,omitempty"`
}

// S3Config holds the parameters of an S3 store.
type S3Config struct {
	// Endpoint is host or host:port, with or without a scheme.
	// +optional
	Endpoint string `json:"endpoint,omitempty"`
	// +optional
	AccessKeyID string `json:"accessKeyID,omitempty"`
	// SecretAccessKey can be read by whoever reads this object: prefer secretConfig.
	// +optional
	SecretAccessKey string `json:"secretAccessKey,omitempty"`
	// +optional
	Region string `json:"region,omitempty"`
	// +optional
	DisableSSL bool `json:"disableSSL,omitempty"`
	// CABundle is PEM, for stores whose certificate no public authority signed.
	// +optional
	CABundle string `json:"caBundle,omitempty"`
	// InsecureSkipVerify does not check the store's certificate at all.
	// +optional
	InsecureSkipVerify bool `json:"insecureSkipVerify,omitempty"`
	// StorageClass is the class that objects are stored in, such as STANDARD_IA;
	// the bucket's own when empty. Classes that cannot be read at once, such as
	// GLACIER, are not served.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!(self in ['GLACIER', 'DEEP_ARCHIVE'])",message="objects of this class cannot be read at once: choose another class"
	StorageClass string `json:"storageClass,omitempty"`
	// UseIam takes the keys of the role that the nodes, or Godwit's service accounts,
	// have in place of an access key. It is served where the controller allows it by
	// --node-role: whoever may make a BackupLocation then reaches all that the role
	// opens.
	// +optional
	UseIam bool `json:"useIam,omitempty"`
	// SSE has the store encrypt objects once more: AES256 by its own key, aws:kms
	// by its key service's.
	// +optional
	// +kubebuilder:validation:Enum="";AES256;"aws:kms"
	SSE string `json:"sse,omitempty"`
	// ObjectLock locks what Godwit writes, so that nobody deletes it before its time.
	// It counts for the repositories of pairs that are made from now on, by their
	// source's BackupLocation.
	// +optional
	ObjectLock *ObjectLock `json:"objectLock,omitempty"`
}

// ObjectLockMode says whom a lock binds.
// +kubebuilder:validation:Enum=Governance;Compliance
type ObjectLockMode string

const (
	// ObjectLockGovernance may be lifted by whom the store lets.
	ObjectLockGovernance ObjectLockMode = "Governance"
	// ObjectLockCompliance binds everybody, the store's owner too.
	ObjectLockCompliance ObjectLockMode = "Compliance"
)

// ObjectLock is how long objects are locked. The bucket has to have been made with
// object lock, which keeps versions too.
type ObjectLock struct {
	Mode ObjectLockMode `json:"mode"`
	// Period is how long from when an object is written; maintenance makes it longer
	// for what is still needed. At least 48h.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('48h')",message="a lock is made longer once a day: its period is at least 48h"
	Period metav1.Duration `json:"period"`
}

// AzureConfig holds the parameters of a storage account of Azure.
type AzureConfig struct {
	// +optional
	StorageAccountName string `json:"storageAccountName,omitempty"`
	// StorageAccountKey can be read by whoever reads this object: prefer secretConfig.
	// +optional
	StorageAccountKey string `json:"storageAccountKey,omitempty"`
	// Environment is the cloud that the account is in; the public one when empty.
	// +optional
	// +kubebuilder:validation:Enum="";AzurePublicCloud;AzureChinaCloud
	Environment string `json:"environment,omitempty"`
	// TenantID, ClientID and ClientSecret are an application of Azure's directory that
	// may use the account, in place of its key. In the public cloud only.
	// +optional
	TenantID string `json:"tenantID,omitempty"`
	// +optional
	ClientID string `json:"clientID,omitempty"`
	// ClientSecret can be read by whoever reads this object: prefer secretConfig.
	// +optional
	ClientSecret string `json:"clientSecret,omitempty"`
	// SubscriptionID and ResourceGroupName are stork's, and not needed to reach
	// a storage account.
	// +optional
	SubscriptionID string `json:"subscriptionID,omitempty"`
	// +optional
	ResourceGroupName string `json:"resourceGroupName,omitempty"`
}

// GoogleConfig holds the parameters of Google's cloud storage, which is reached by
// the key of a service account, or by its HMAC keys.
type GoogleConfig struct {
	// ProjectID is stork's, and not needed: the keys say which project it is.
	// +optional
	ProjectID string `json:"projectID,omitempty"`
	// AccountKey is a service account's key in JSON, and can be read by whoever reads
	// this object: prefer secretConfig. It opens all that the account may do: HMAC
	// keys open storage only.
	// +optional
	AccountKey string `json:"accountKey,omitempty"`
	// AccessKeyID is the access id of an HMAC key.
	// +optional
	AccessKeyID string `json:"accessKeyID,omitempty"`
	// SecretAccessKey can be read by whoever reads this object: prefer secretConfig.
	// +optional
	SecretAccessKey string `json:"secretAccessKey,omitempty"`
}

// NFSConfig holds the parameters of an NFS server. Godwit mounts nothing itself:
// the chart's value nfs mounts server and path into its pods.
type NFSConfig struct {
	// ServerAddr is the server, as the chart's value nfs spells it.
	// +optional
	ServerAddr string `json:"serverAddr,omitempty"`
	// SubPath is a folder below path.
	// +optional
	SubPath string `json:"subPath,omitempty"`
	// MountOptions are the cluster's to set, and not served here.
	// +optional
	MountOptions string `json:"mountOptions,omitempty"`
	// NFSIOTimeoutInSecs is a mount option too.
	// +optional
	NFSIOTimeoutInSecs string `json:"nfsIOTimeoutInSecs,omitempty"`
}

// BackupLocationStatus tells whether the location can be used.
type BackupLocationStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// LastChecked is when the store was last written to and read from.
	// +optional
	LastChecked *metav1.Time `json:"lastChecked,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BackupLocationList is a list of BackupLocation.
// +kubebuilder:object:root=true
type BackupLocationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BackupLocation `json:"items"`
}
