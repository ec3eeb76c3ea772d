package pairing

import "errors"

// Why a token is refused. Each is told apart, in the log and to the caller;
// the last four only to whoever holds the token's secret.
var (
	// ErrTokenMalformed says that a line is no token, or not a whole one.
	ErrTokenMalformed = errors.New("not a pairing token")
	// ErrTokenUnknown says that the target keeps no such token.
	ErrTokenUnknown = errors.New("the target does not know this token")
	// ErrTokenSecret says that the token's id is known but its secret is wrong.
	ErrTokenSecret = errors.New("the token's secret is wrong")
	// ErrTokenUsed says that another redemption spent the token.
	ErrTokenUsed = errors.New("the token was used already")
	// ErrTokenExpired says that the token's time is over.
	ErrTokenExpired = errors.New("the token has expired")
	// ErrNamespace says that a namespace is outside the scope of a token or pair.
	ErrNamespace = errors.New("namespace not covered")
	// ErrSelf says that a cluster was given a token of its own.
	ErrSelf = errors.New("a cluster cannot be paired with itself")
)

// Why a pair does not work.
var (
	// ErrRevoked says that one side removed the pair.
	ErrRevoked = errors.New("the pair was removed on the target")
	// ErrUnreachable says that the target does not answer.
	ErrUnreachable = errors.New("cannot reach the target")
	// ErrImpostor says that whoever answered is not the cluster that was paired.
	ErrImpostor = errors.New("the answer does not come from the paired cluster")
	// ErrCertificate says that a certificate or a request for one does not hold.
	ErrCertificate = errors.New("certificate refused")
	// ErrRequest says that a redemption is malformed.
	ErrRequest = errors.New("malformed pairing request")
	// ErrAnswer says that the target's answer does not fit what was asked.
	ErrAnswer = errors.New("the target's answer does not fit")
)

// What stores say.
var (
	// ErrNotFound says that a store holds no such record.
	ErrNotFound = errors.New("not found")
	// ErrConflict says that a record changed, or came to be, since it was read.
	ErrConflict = errors.New("changed meanwhile")
)

// Refused reports whether err is a final no to a token: asking again with the
// same token cannot help, so that nothing about it needs to be kept.
func Refused(err error) bool {
	for _, refusal := range []error{
		ErrTokenMalformed, ErrTokenUnknown, ErrTokenSecret, ErrTokenUsed,
		ErrTokenExpired, ErrNamespace, ErrSelf, ErrRevoked,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}
