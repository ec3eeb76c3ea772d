package migrate

import (
	"fmt"
	"time"
)

// DefaultMaxDowntime is how long the last copy may take unless told otherwise.
const DefaultMaxDowntime = 30 * time.Second

// shrinking is how much of the round before a round may take at most, in percent,
// for another one to be worth it.
const shrinking = 90

// PrecopyLimits say when rounds are enough.
type PrecopyLimits struct {
	MaxDowntime time.Duration
	MaxRounds   int
}

// PrecopyRound is one round while the application runs.
type PrecopyRound struct {
	Name string
	// Ended is true once it is final; Failed says why it did not succeed.
	Ended  bool
	Failed string
	// Took is from its beginning to its end on the target.
	Took time.Duration
}

// PrecopyActionKind names what to do next about the rounds.
type PrecopyActionKind string

// The actions.
const (
	// AnotherRound begins the next one.
	AnotherRound PrecopyActionKind = "AnotherRound"
	// AwaitRound waits for the one that is under way.
	AwaitRound PrecopyActionKind = "AwaitRound"
	// EnoughRounds goes on to stop the source.
	EnoughRounds PrecopyActionKind = "EnoughRounds"
	// RoundFailed ends the Migration.
	RoundFailed PrecopyActionKind = "RoundFailed"
)

// PrecopyAction is one thing to do, and why.
type PrecopyAction struct {
	Kind            PrecopyActionKind
	Reason, Message string
}

// NextPrecopy names the one thing to do about the rounds, given in order. The next
// round has to move what changed during the last one: as long as rounds get shorter,
// it is foreseen to be shorter by the same factor.
func NextPrecopy(rounds []PrecopyRound, l PrecopyLimits) PrecopyAction {
	if len(rounds) == 0 {
		return PrecopyAction{Kind: AnotherRound}
	}
	n := len(rounds)
	last := rounds[n-1]
	switch {
	case last.Failed != "":
		return PrecopyAction{RoundFailed, "PrecopyFailed", fmt.Sprintf("round %d, Migration %s: %s", n, last.Name, last.Failed)}
	case !last.Ended:
		return PrecopyAction{AwaitRound, "Precopy", fmt.Sprintf("round %d copies while the application runs (Migration %s)", n, last.Name)}
	}
	next := last.Took
	if n > 1 && rounds[n-2].Took > 0 && next < rounds[n-2].Took {
		next = time.Duration(float64(next) * float64(next) / float64(rounds[n-2].Took))
	}
	said := fmt.Sprintf("after %d rounds, of which the last took %s, the next is foreseen to take %s", n, rounded(last.Took), rounded(next))
	switch {
	case next <= l.MaxDowntime:
		return PrecopyAction{EnoughRounds, "ShortEnough", fmt.Sprintf("%s: maxDowntime is %s", said, l.MaxDowntime)}
	case n > 1 && last.Took*100 >= rounds[n-2].Took*shrinking:
		return PrecopyAction{EnoughRounds, "NotShrinking", fmt.Sprintf("%s, which is more than maxDowntime (%s), but the one before took %s: more rounds do not make it shorter", said, l.MaxDowntime, rounded(rounds[n-2].Took))}
	case n >= l.MaxRounds:
		return PrecopyAction{EnoughRounds, "MaxRounds", fmt.Sprintf("%s, which is more than maxDowntime (%s), but maxRounds is %d", said, l.MaxDowntime, l.MaxRounds)}
	}
	return PrecopyAction{AnotherRound, "", said}
}

func rounded(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
