// Command bench measures Godwit's engine beside other programs that do the same
// work, on this machine, and says which goals are met.
//
// Its words: a peer is a program that takes part; an operation is what all of
// them do, each in its own way; a run is one peer doing one operation once; a
// round is one run of everything, in turn, so that whatever else the machine
// does hits all alike; a version is one of the contents that the image has. What
// is compared are medians over rounds of ratios within a round.
//
// The object store is a versitygw of its own without TLS. Requests and bytes
// are counted in its access log, which costs nobody anything. What is restored
// is compared with the source, byte by byte, outside of what is measured.
package main
