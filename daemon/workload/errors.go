package workload

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// ErrImmutable says that an object stands on the target and differs in a field
// that cannot be changed in place.
var ErrImmutable = errors.New("the object on the target cannot be changed in place")

// ErrBeingDeleted says that the object on the target is on its way out.
var ErrBeingDeleted = errors.New("the object on the target is being deleted: wait until it is gone, " +
	"or look which finalizer holds it")

// ErrHoldsData says that an undo would delete what this run did not make.
var ErrHoldsData = errors.New("deleting it would delete what this run did not make")

// ChangedError says that somebody changed an object after it was applied, so that
// taking the write back would take back their change too.
type ChangedError struct {
	Ref Ref
	// Managers are the field managers that wrote since, where the server knows.
	Managers []string
	// Paths are fields that differ from what the run left; none if the object was
	// deleted or replaced.
	Paths []string
}

// Error names the fields and who changed them.
func (e *ChangedError) Error() string {
	what := "was deleted or replaced"
	if len(e.Paths) > 0 {
		what = "was changed in " + strings.Join(e.Paths, ", ")
	}
	by := ""
	if len(e.Managers) > 0 {
		by = " by " + strings.Join(e.Managers, ", ")
	}
	return fmt.Sprintf("%s %s since it was applied%s: it is left as it is; force the undo to discard that change", e.Ref, what, by)
}

// refused explains the server's refusal to change what stands there.
func refused(err error, obj, live *unstructured.Unstructured) error {
	if live == nil || !apierrors.IsInvalid(err) || !immutable(err) {
		return err
	}
	ref := RefOf(obj)
	namespace := ""
	if ref.Namespace != "" {
		namespace = " -n " + ref.Namespace
	}
	return fmt.Errorf("%w, and Godwit never deletes in order to recreate: delete it on the target "+
		"(kubectl delete %s %s%s), or annotate it there with godwit.io/skip-resource=true to keep it: %w",
		ErrImmutable, strings.ToLower(ref.GroupKind().String()), ref.Name, namespace, err)
}

// immutable tells by the words of the API server's validation, which has no code
// for it.
func immutable(err error) bool {
	for _, words := range []string{
		"immutable", "may not change", "may not be changed", "cannot change", "cannot be changed",
		"updates to ", "updates may not",
	} {
		if strings.Contains(err.Error(), words) {
			return true
		}
	}
	return false
}

// Retryable tells whether the same call may succeed later without anybody doing
// anything. It is the one place that decides this for all of the package's errors.
func Retryable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	return !isMalformed(err) && (retryableState(err) || retryableServer(err) || retryableConnection(err))
}

// isMalformed tells of an object that is not of its kind's schema, which the API
// server calls an internal error of its own.
func isMalformed(err error) bool {
	return apierrors.IsInvalid(err) || err != nil && strings.Contains(err.Error(), "failed to create typed patch object")
}

// retryableState is about other objects that are still coming or going.
func retryableState(err error) bool {
	switch {
	case errors.Is(err, ErrBeingDeleted):
		return true
	// Somebody wrote between the look and the write.
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return true
	// A definition was just made, and discovery does not tell of it yet.
	case meta.IsNoMatchError(err), apierrors.IsNotFound(err):
		return true
	// A namespace on its way out is made again by its wave once it is gone.
	case apierrors.HasStatusCause(err, "NamespaceTerminating"):
		return true
	}
	return false
}

// retryableServer is about a server, or a webhook behind it, that is not up to it
// just now.
func retryableServer(err error) bool {
	switch {
	case apierrors.IsServerTimeout(err), apierrors.IsTimeout(err),
		apierrors.IsTooManyRequests(err), apierrors.IsServiceUnavailable(err):
		return true
	case apierrors.IsInternalError(err):
		// Webhooks that cannot be reached, and storage that hiccups.
		return true
	}
	_, after := apierrors.SuggestsClientDelay(err)
	return after || apierrors.ReasonForError(err) == metav1.StatusReasonStoreReadError
}

func retryableConnection(err error) bool {
	return utilnet.IsConnectionReset(err) || utilnet.IsConnectionRefused(err) ||
		utilnet.IsProbableEOF(err) || utilnet.IsTimeout(err) || utilnet.IsHTTP2ConnectionLost(err)
}

// unserved tells that the API server has no such path: the kind's definition has
// gone since the mapper learnt of it.
func unserved(err error) bool {
	return apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// isNoMatch tells that the cluster does not serve a kind.
func isNoMatch(err error) bool {
	var kind *meta.NoKindMatchError
	var resource *meta.NoResourceMatchError
	return errors.As(err, &kind) || errors.As(err, &resource)
}
