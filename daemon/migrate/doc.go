// Package migrate decides. Given what was observed of one Migration, Next names
// the one action to take; given what was observed of one standby, NextStandby
// does the same on the target. It also declares Target, the other cluster's
// agent as a Migration needs it.
//
// Its words: a volume's Step, a Migration's Action, a Problem that preflight
// found. It never reads or writes anything, and asks no clock.
package migrate

import "errors"

// ErrActivated says that the application was activated on the target: it is the
// active side now, and takes no round of the source any more.
var ErrActivated = errors.New("the application was activated on the target")

// ErrUnknownRound says that the target was never told of the round, or has
// forgotten it.
var ErrUnknownRound = errors.New("the target does not know this round")
