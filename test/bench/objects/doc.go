// Command objects measures how 10,000 objects of 50 namespaces are collected,
// changed and applied on a real API server, beside kubectl apply of as many, and
// says which goals are met.
//
// Each program runs by itself, so that its memory is its own. Writes are counted
// by the API server. Godwit keeps how to undo each write, as it does for its
// users, in the cluster that is measured; kubectl keeps nothing.
package main
