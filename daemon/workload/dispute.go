package workload

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// Dispute is a field that somebody on the target owns with another value.
type Dispute struct {
	Field   string `json:"field"`
	Manager string `json:"manager"`
}

// DisputeError says that an object stands there that others own fields of, and
// that conflicts of its kind are to be resolved by nobody but the user.
type DisputeError struct {
	Ref      Ref
	Disputes []Dispute
}

// Error names every field and its owner.
func (e *DisputeError) Error() string {
	fields := make([]string, 0, len(e.Disputes))
	for _, d := range e.Disputes {
		fields = append(fields, d.Field+" (owned by "+d.Manager+")")
	}
	return fmt.Sprintf("%s stands on the target with other values in %s: set spec.conflictResolution (or conflictResolutionByKind) to Overwrite, Skip or Recreate, or delete it there",
		e.Ref, strings.Join(fields, ", "))
}

const annotationLastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// disputesIn reads the conflicts out of the server's answer.
func disputesIn(err error) []Dispute {
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	manager := regexp.MustCompile(`conflict with "([^"]*)"`)
	var out []Dispute
	for _, cause := range status.Status().Details.Causes {
		if cause.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		d := Dispute{Field: strings.TrimPrefix(cause.Field, "."), Manager: cause.Message}
		if found := manager.FindStringSubmatch(cause.Message); found != nil {
			d.Manager = found[1]
		}
		out = append(out, d)
	}
	return out
}

func onlyLastApplied(disputes []Dispute) bool {
	for _, d := range disputes {
		if !strings.Contains(d.Field, annotationLastApplied) {
			return false
		}
	}
	return true
}

type resolution string

const (
	resolveAbort     = resolution(api.ConflictAbort)
	resolveSkip      = resolution(api.ConflictSkip)
	resolveOverwrite = resolution(api.ConflictOverwrite)
	resolveRecreate  = resolution(api.ConflictRecreate)
)

// resolution is for what stands there. Accounts are merged always. What this very
// owner wrote is never skipped or made anew: it is brought up to date.
func (o ApplyOptions) resolution(live *unstructured.Unstructured) resolution {
	wanted := resolution(o.Conflicts.For(live.GroupVersionKind().GroupKind()))
	ours := o.Owner != "" && live.GetAnnotations()[AnnotationOwner] == o.Owner
	switch {
	case isKind(live, "", "ServiceAccount"):
		return resolveOverwrite
	case ours && wanted != resolveAbort:
		return resolveOverwrite
	}
	return wanted
}

// holdsOthers tells what must never be deleted in order to be made anew, since
// data or other objects would go with it.
func holdsOthers(live *unstructured.Unstructured) bool {
	return isKind(live, "", "Namespace") || isKind(live, "", "PersistentVolumeClaim") || isKind(live, "", "PersistentVolume") ||
		isKind(live, "apiextensions.k8s.io", "CustomResourceDefinition")
}

func isImmutable(err error) bool { return errors.Is(err, ErrImmutable) }
