package v1alpha1

// ConditionReady says whether an object does what it is for; its message says
// in one line what stands in the way.
const ConditionReady = "Ready"

// Conditions of a BackupLocation beside ConditionReady.
const (
	// ConditionVersioning and ConditionObjectLock say whether the store keeps what
	// is deleted, and whether it can lock objects.
	ConditionVersioning = "Versioning"
	ConditionObjectLock = "ObjectLock"
	// ConditionInsecure is there as long as something about the way to the store
	// is not safe.
	ConditionInsecure = "Insecure"
)

// Finalizer keeps an object until what was made for it is cleaned up.
const Finalizer = "godwit.io/cleanup"
