package cbt

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/snapshot"
)

// Reason tells apart why a storage did not say what changed. It is fit for a
// condition's reason and a metric's label.
type Reason string

// The reasons.
const (
	// NotServed: nobody answers for this driver's changed blocks.
	NotServed Reason = "NotServed"
	// NotTracked: the driver could, and does not for this volume.
	NotTracked Reason = "NotTracked"
	// BaseGone: the storage has no such base any more.
	BaseGone Reason = "BaseGone"
	// SnapshotGone: the storage has no such snapshot.
	SnapshotGone Reason = "SnapshotGone"
	// OutOfRange: the driver refused an offset that its own answer led to.
	OutOfRange Reason = "OutOfRange"
	// Refused: the driver or its sidecar takes the question for wrong.
	Refused Reason = "Refused"
	// Denied: the token was not accepted, or gives no right.
	Denied Reason = "Denied"
	// Unreachable: nobody answered.
	Unreachable Reason = "Unreachable"
	// Broken: the answer broke off, and did not get any further when it was
	// asked for again.
	Broken Reason = "Broken"
	// Lied: the answer contradicts itself or the specification.
	Lied Reason = "Lied"
)

// remedies say what an operator can do.
func (r Reason) remedy() string {
	switch r {
	case NotServed:
		return "deploy the driver's external-snapshot-metadata sidecar and its SnapshotMetadataService, if the driver has one"
	case NotTracked:
		return "turn changed-block tracking on in the storage, if it has it"
	case BaseGone:
		return "nothing to do unless it repeats: then see who deletes Godwit's snapshots in the storage"
	case SnapshotGone:
		return "see who deletes Godwit's snapshots in the storage"
	case Denied:
		return "check that the ServiceAccount for changed blocks may get VolumeSnapshots in Godwit's namespace, and the audience in the SnapshotMetadataService"
	case Unreachable:
		return "check the address and caCert in the SnapshotMetadataService, network policies, and the log of the sidecar"
	case Broken:
		return "see the logs of the driver and of its sidecar"
	case OutOfRange, Refused, Lied:
		return "report it to the driver's vendor; `godwitctl volume cbt-check` shows it on a scratch volume"
	}
	return "see the logs of the driver and of its sidecar"
}

// Error says why there is no answer, and what can be done. A BaseGone is also
// a snapshot.ErrNoBase.
type Error struct {
	Reason Reason
	// Asked is what was asked for, in words.
	Asked string
	// Problem is what went wrong, in words; empty where Err says it all.
	Problem string
	Err     error
}

// Error says what failed, why, and what to do.
func (e *Error) Error() string {
	text := e.Problem
	if e.Err != nil && text != "" {
		text += ": " + e.Err.Error()
	} else if e.Err != nil {
		text = e.Err.Error()
	}
	return fmt.Sprintf("ask the storage for %s: %s (%s): %s", e.Asked, e.Reason, text, e.Reason.remedy())
}

// Unwrap gives the cause, and snapshot.ErrNoBase where it is that.
func (e *Error) Unwrap() []error {
	var all []error
	if e.Err != nil {
		all = append(all, e.Err)
	}
	if e.Reason == BaseGone {
		all = append(all, snapshot.ErrNoBase)
	}
	return all
}

// ReasonOf is the Reason of an error of this package; empty for another.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func lied(format string, args ...any) error {
	return &Error{Reason: Lied, Problem: fmt.Sprintf(format, args...)}
}

// reasonOf tells what a gRPC error means; delta is false where no base was named.
func reasonOf(err error, delta bool) Reason {
	switch status.Code(err) {
	case codes.Unimplemented:
		return NotServed
	case codes.FailedPrecondition:
		return NotTracked
	case codes.NotFound:
		if delta {
			return BaseGone
		}
		return SnapshotGone
	case codes.OutOfRange:
		return OutOfRange
	case codes.InvalidArgument:
		return Refused
	case codes.Unauthenticated, codes.PermissionDenied:
		return Denied
	default:
		return ""
	}
}
