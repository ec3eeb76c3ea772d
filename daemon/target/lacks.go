package target

import (
	"context"

	"github.com/godwit-io/godwit/daemon/target/lacks"
	"github.com/godwit-io/godwit/daemon/workload"
)

// lacks finds what this cluster does not have for what would be written. Of a
// namespace that is so large that it is asked about in several parts, each part is
// held against quotas by itself.
func (s *session) lacks(ctx context.Context, changed workload.Transformed, seen surveyed, i workload.Instructions) (lacks.Found, error) {
	actions := make(map[workload.Ref]workload.Action, len(seen.outlooks))
	for _, o := range seen.outlooks {
		if o.Problem == "" {
			actions[o.Ref] = o.Action
		}
	}
	finder := lacks.Finder{Live: s.Live, Client: s.Client}
	return finder.Find(ctx, lacks.Coming{Objects: asAdmitted(changed.Objects, seen.admitted), Actions: actions, Starts: i.StartApplications})
}

// asAdmitted are all objects, those that the pair may bring as it may bring them:
// not every label of a namespace is its to set.
func asAdmitted(all, admitted []workload.Moved) []workload.Moved {
	by := make(map[workload.Ref]workload.Moved, len(admitted))
	for _, moved := range admitted {
		by[workload.RefOf(&moved.Unstructured)] = moved
	}
	out := make([]workload.Moved, 0, len(all))
	for _, moved := range all {
		if as, found := by[workload.RefOf(&moved.Unstructured)]; found {
			moved = as
		}
		out = append(out, moved)
	}
	return out
}
