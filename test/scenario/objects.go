package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// content is what an object says, by the fields that objects of the archive have.
type content struct {
	Data   map[string]string `json:"data"`
	Spec   map[string]any    `json:"spec"`
	Rules  []any             `json:"rules"`
	Status struct {
		ReadyReplicas int64 `json:"readyReplicas"`
	} `json:"status"`
}

// VerifyObjects compares the archive's objects in both clusters: what the user
// wrote is the same, what was left out on purpose is not there.
func (g *Ground) VerifyObjects(ctx context.Context, a App) (Finding, error) {
	const what = "objects"
	for _, name := range []string{"secret/keys", "configmap/shelves", "role/app", "page/home"} {
		var both [2]content
		for i, c := range []Cluster{g.Source, g.Target} {
			var err error
			if both[i], err = Get[content](ctx, c, "-n", a.Namespace, name); err != nil {
				return Finding{}, fmt.Errorf("%s: %w", what, err)
			}
		}
		if !reflect.DeepEqual(both[0], both[1]) {
			source, _ := json.Marshal(both[0]) //nolint:errchkjson // it was JSON
			target, _ := json.Marshal(both[1]) //nolint:errchkjson // it was JSON
			return Finding{}, fmt.Errorf("%s: %s says %s in the source and %s in the target", what, name, source, target)
		}
	}
	for name, replicas := range map[string]int64{"statefulset/books": 1, "deployment/ledger": 1, "deployment/uploads": 2} {
		o, err := Get[content](ctx, g.Target, "-n", a.Namespace, name)
		if err != nil {
			return Finding{}, fmt.Errorf("%s: %w", what, err)
		}
		if o.Status.ReadyReplicas != replicas {
			return Finding{}, fmt.Errorf("%s: %s has %d ready replicas in the target, want %d", what, name, o.Status.ReadyReplicas, replicas)
		}
	}
	there, err := g.Target.Kubectl(ctx, "-n", a.Namespace, "get", "service/books", "serviceaccount/app", "rolebinding/app", "-o", "name")
	if err != nil {
		return Finding{}, fmt.Errorf("%s: %w", what, err)
	}
	left, err := g.Target.Kubectl(ctx, "-n", a.Namespace, "get", "deployment/writer", "--ignore-not-found", "-o", "name")
	if err != nil {
		return Finding{}, fmt.Errorf("%s: %w", what, err)
	}
	if left != "" {
		return Finding{}, fmt.Errorf("%s: %s is in the target, and its annotation says that it stays", what, strings.TrimSpace(left))
	}
	return Finding{What: what, Detail: fmt.Sprintf("%d are the same in both, and what should stay stayed", 7+len(lines(there)))}, nil
}
