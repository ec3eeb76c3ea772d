// Package rpc is migrate.Target on the wire, both ends of it, and the way from
// a pair to a connection.
//
// Server answers other clusters: it takes the peer from the call's context,
// refuses what is outside the peer's scope, and hands the rest to the agent of
// that peer. Target is the client's end. Remotes keeps one connection per pair.
//
// Wire types stop here. What the agent does is none of its business, and so is
// whose certificate is good: pairing/rpc saw to that before a call arrives.
package rpc
