package workload

import (
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// Conflicts says what becomes of objects that stand on the target already.
type Conflicts struct {
	// Resolution is for every kind that ByKind does not name; Abort if empty.
	Resolution api.ConflictResolution            `json:"resolution,omitempty"`
	ByKind     map[string]api.ConflictResolution `json:"byKind,omitempty"`
}

// For is the resolution for a kind. Where several names of it are given, the one
// that comes first in the alphabet counts.
func (c Conflicts) For(gk schema.GroupKind) api.ConflictResolution {
	names := make([]string, 0, len(c.ByKind))
	for name := range c.ByKind {
		if name != "*" && shape.Named(gk, name) {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		return c.ByKind[slices.Min(names)]
	}
	switch {
	case shared(gk):
		return api.ConflictSkip
	case c.Resolution == "":
		return api.ConflictAbort
	}
	return c.Resolution
}

// shared tells kinds that other applications of the target use too. One that is
// there stays as it is, unless the kind is named.
func shared(gk schema.GroupKind) bool {
	switch gk {
	case schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"},
		schema.GroupKind{Group: "storage.k8s.io", Kind: "StorageClass"},
		schema.GroupKind{Group: "scheduling.k8s.io", Kind: "PriorityClass"},
		schema.GroupKind{Group: "node.k8s.io", Kind: "RuntimeClass"},
		schema.GroupKind{Group: "networking.k8s.io", Kind: "IngressClass"}:
		return true
	}
	return false
}

func (c Conflicts) check() error {
	var all []error
	known := func(r api.ConflictResolution) bool {
		switch r {
		case "", api.ConflictAbort, api.ConflictSkip, api.ConflictOverwrite, api.ConflictRecreate:
			return true
		}
		return false
	}
	if !known(c.Resolution) {
		all = append(all, fmt.Errorf("spec.conflictResolution: %q is unknown: use Abort, Skip, Overwrite or Recreate", c.Resolution))
	}
	for name, r := range c.ByKind {
		if !known(r) || r == "" {
			all = append(all, fmt.Errorf("spec.conflictResolutionByKind[%s]: %q is unknown: use Abort, Skip, Overwrite or Recreate", name, r))
		}
	}
	return errors.Join(all...)
}
