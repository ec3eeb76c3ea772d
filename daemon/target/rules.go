package target

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/daemon/workload/dce"
)

// transformation is a round on its way to become this cluster's objects.
type transformation struct {
	application  string
	at           time.Time
	instructions workload.Instructions
	objects      []unstructured.Unstructured
	volumes      map[types.NamespacedName]workload.ClaimVolume
}

// wrongRules are the users' rules that cannot be followed; trying again does not
// mend them.
type wrongRules struct{ err error }

// Error is the rules' own.
func (e *wrongRules) Error() string { return e.err.Error() }

// Unwrap gives the single problems.
func (e *wrongRules) Unwrap() error { return e.err }

// transform changes the objects by what the source says and by what the
// ConfigMaps of this cluster say.
func (a *Agent) transform(ctx context.Context, t transformation) (workload.Transformed, error) {
	local, err := a.localRules(ctx)
	if err != nil {
		return workload.Transformed{}, err
	}
	edits, err := workload.ReadEdits(t.instructions, local)
	if err != nil {
		return workload.Transformed{}, &wrongRules{err}
	}
	namespace, name, _ := strings.Cut(t.application, "/")
	served := a.servedKinds()
	out, err := workload.Transform(t.objects, workload.TransformOptions{
		Instructions: t.instructions, Edits: edits, MigrationName: name, MigrationNamespace: namespace,
		Time: t.at, Volumes: t.volumes, Serves: served.has,
	})
	if served.err != nil {
		return out, served.err
	}
	if err != nil {
		return out, &wrongRules{err}
	}
	return out, nil
}

// localRules finds the ConfigMaps by their labels, where the plugins' documents
// put them, and beside Godwit.
func (a *Agent) localRules(ctx context.Context) (workload.Local, error) {
	var local workload.Local
	resource := a.Objects.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"})
	for _, found := range []struct {
		label string
		into  *[]unstructured.Unstructured
	}{{dce.LabelPlugin, &local.Plugins}, {dce.LabelImages, &local.Images}} {
		for _, namespace := range []string{dce.Namespace, a.Namespace} {
			list, err := resource.Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: found.label + "=" + dce.LabelValue})
			if err != nil {
				return local, fmt.Errorf("look for ConfigMaps with the label %s in namespace %s: %w", found.label, namespace, err)
			}
			*found.into = append(*found.into, list.Items...)
		}
	}
	return local, nil
}

// servedKinds remembers which kinds this cluster serves, for one run.
type servedKinds struct {
	mapper workload.Mapper
	mu     sync.Mutex
	known  map[schema.GroupVersionKind]bool
	err    error
}

func (a *Agent) servedKinds() *servedKinds {
	return &servedKinds{mapper: a.Objects.Mapper, known: make(map[schema.GroupVersionKind]bool)}
}

// has asks once for each kind. A cluster that cannot answer is taken to serve the
// kind: an error that is seen afterwards ends the run, and nothing is left out.
func (s *servedKinds) has(gvk schema.GroupVersionKind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	served, asked := s.known[gvk]
	if asked {
		return served
	}
	_, err := s.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if resettable, ok := s.mapper.(interface{ Reset() }); ok && meta.IsNoMatchError(err) {
		resettable.Reset()
		_, err = s.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if err != nil && !meta.IsNoMatchError(err) {
		s.err = fmt.Errorf("ask which kinds the cluster serves: %w", err)
		return true
	}
	s.known[gvk] = err == nil
	return err == nil
}

// served gives of each kind the versions that this cluster serves.
func (a *Agent) served(kinds []migrate.KindVersions) ([]migrate.KindVersions, error) {
	if len(kinds) == 0 {
		return nil, nil
	}
	versions, err := workload.Versions(a.Objects.Discovery)
	if err != nil {
		return nil, err
	}
	var out []migrate.KindVersions
	for _, k := range kinds {
		here := versions[schema.GroupKind{Group: k.Group, Kind: k.Kind}]
		k.Versions = slices.DeleteFunc(slices.Clone(k.Versions), func(version string) bool { return !slices.Contains(here, version) })
		out = append(out, k)
	}
	return out, nil
}

// into is the namespace of the application's claim on this cluster.
func into(v *api.StandbyVolume) string {
	if v.Into != "" {
		return v.Into
	}
	return v.Namespace
}
