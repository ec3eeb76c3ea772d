package v1alpha1

// TransferFinalizer keeps a VolumeTransfer until its node's daemon has stopped
// working on it. Where the node is gone for good, the controller drops it.
const TransferFinalizer = "godwit.io/node"
