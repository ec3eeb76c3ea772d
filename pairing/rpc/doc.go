// Package rpc is pairing on the wire: the gRPC server of the target and the
// client of the source.
//
// The server speaks TLS 1.3 with a certificate of its cluster's authority. One
// call, Redeem, may be made without a client certificate; it is limited per
// address. Every other call, of whatever service is registered beside ours,
// must show a certificate of that authority whose pair still stands, and finds
// its pairing.Peer by PeerFrom. The peer is read anew for each call.
//
// The client pins: by the token's fingerprint until the pair stands, by the
// authority's certificate from then on. System roots never count.
//
// Errors keep the words and, on both ends, the sentinels of package pairing.
// Nothing here logs a secret.
package rpc
