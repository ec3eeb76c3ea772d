package rpc

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/pairing"
)

// errorDomain marks the sentinels of package pairing on the wire.
const errorDomain = "godwit.io"

// meaning is how a sentinel travels: a code for everybody, a reason for us.
type meaning struct {
	err    error
	code   codes.Code
	reason string
}

func meanings() []meaning {
	return []meaning{
		{pairing.ErrTokenUnknown, codes.NotFound, "TOKEN_UNKNOWN"},
		{pairing.ErrTokenSecret, codes.Unauthenticated, "TOKEN_SECRET"},
		{pairing.ErrTokenUsed, codes.FailedPrecondition, "TOKEN_USED"},
		{pairing.ErrTokenExpired, codes.FailedPrecondition, "TOKEN_EXPIRED"},
		{pairing.ErrNamespace, codes.PermissionDenied, "NAMESPACE"},
		{pairing.ErrSelf, codes.InvalidArgument, "SELF"},
		{pairing.ErrRevoked, codes.Unauthenticated, "REVOKED"},
		{pairing.ErrCertificate, codes.Unauthenticated, "CERTIFICATE"},
		{pairing.ErrRequest, codes.InvalidArgument, "REQUEST"},
		{pairing.ErrConflict, codes.Aborted, "CONFLICT"},
	}
}

// Status gives err to a caller that showed a pair: its words, the code of the
// sentinel of package pairing in it, and the sentinel itself.
func Status(err error) error {
	if err == nil {
		return nil
	}
	for _, m := range meanings() {
		if errors.Is(err, m.err) {
			return m.status(err.Error())
		}
	}
	switch {
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	return status.Error(codes.Internal, err.Error())
}

func (m meaning) status(words string) error {
	s := status.New(m.code, words)
	detailed, err := s.WithDetails(&errdetails.ErrorInfo{Domain: errorDomain, Reason: m.reason})
	if err != nil {
		return s.Err()
	}
	return detailed.Err()
}

// strangerStatus is Status for a caller without a pair. What is none of our own
// words stays in our log, since it may tell about this cluster.
func strangerStatus(err error) error {
	told := Status(err)
	if status.Code(told) == codes.Internal {
		return status.Error(codes.Internal, "the target could not redeem the token: its log says why")
	}
	return told
}

// remoteError has the words and the status of the other side, and a sentinel of
// this one.
type remoteError struct {
	status *status.Status
	kind   error
}

// fromWire finds the sentinel that Status sent along; other errors are returned
// as they are.
func fromWire(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, detail := range s.Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != errorDomain {
			continue
		}
		for _, m := range meanings() {
			if m.reason == info.GetReason() {
				return &remoteError{status: s, kind: m.err}
			}
		}
	}
	return err
}

// Error gives the other side's words.
func (e *remoteError) Error() string { return e.status.Message() }

// Unwrap gives the sentinel.
func (e *remoteError) Unwrap() error { return e.kind }

// GRPCStatus gives the status to those who look for its code.
func (e *remoteError) GRPCStatus() *status.Status { return e.status }
