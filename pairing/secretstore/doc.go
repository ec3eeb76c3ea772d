// Package secretstore keeps what pairing needs in Secrets of one namespace:
// peers, grants and the cluster's authority, one Secret each, labelled with
// godwit.io/kind.
//
// A record's Version is its Secret's resourceVersion, so that the API server
// itself lets only one of two redemptions win. What a person may see is in the
// Secret's "record" as JSON; each secret has a key of its own.
//
// The client should read the API server directly. A cache would have to hold
// every Secret of the namespace and tell the store of a spent token late.
package secretstore

//+kubebuilder:rbac:groups="",namespace=godwit-system,resources=secrets,verbs=list;create;update;delete
