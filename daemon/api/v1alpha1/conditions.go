package v1alpha1

// ConditionReady says whether an object does what it is for; its message says
// in one line what stands in the way.
const ConditionReady = "Ready"

// Finalizer keeps an object until what was made for it is cleaned up.
const Finalizer = "godwit.io/cleanup"
