// Package pairing makes trust between two clusters out of a token, and keeps it.
//
// Its words:
//
//   - A Token is what a person carries from the target to the source: one
//     opaque line, good once, for a short time, for the namespaces it was made
//     for. It names the target and pins its Authority by fingerprint.
//   - A Grant is what the target keeps of a token: a hash of its secret, its
//     scope, and by whom it was used.
//   - A Peer is one side of one pair. The source keeps an Outgoing peer, the
//     target an Incoming one; both bear the id of the token that made them.
//   - The Authority is the cluster's own certificate authority. It signs the
//     certificates of the clusters that send to it, and that of its own server.
//   - The Scope of a pair says which namespaces it covers.
//
// The target's side is Mint and Issuer.Redeem, the source's Joiner.Join. A
// certificate says only who asks; what it may do is read from the Peer at every
// call, so that removing the Peer revokes the pair at once.
//
// The package decides and signs. It never touches the network or Kubernetes:
// stores and the wire are behind interfaces, and it never hands a secret to a
// log, an error or a JSON encoder.
package pairing
