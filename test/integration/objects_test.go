package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

const blogMigration = `apiVersion: godwit.io/v1alpha1
kind: Migration
metadata: {name: NAME, namespace: godwit-system}
spec:
  clusterPair: everything
  namespaces: [blog, blog-data]
  namespaceMapping: {blog: press, blog-data: press-data}
  includeVolumes: false
  startApplications: true
  rewriteServiceNames: true
  includeOptionalResourceTypes: [Job]
  conflictResolution: Overwrite
  preserveResourcesOnDeletion: false
`

const cacheResource = "{apiVersion: story.example.com/v1, kind: Cache, metadata: {name: pages, namespace: blog-data}, spec: {size: 3}}"

// cachePassword is what the operator keeps for its custom resource.
const cachePassword = "{apiVersion: v1, kind: Secret, metadata: {name: pages-password, namespace: blog-data, ownerReferences: [{apiVersion: story.example.com/v1, kind: Cache, name: pages, uid: UID, controller: true}]}}"

func cacheUID(ctx context.Context, t *testing.T, c scenario.Cluster, namespace string) string {
	t.Helper()
	uid, err := c.Kubectl(ctx, "-n", namespace, "get", "caches/pages", "-o", "jsonpath={.metadata.uid}")
	must(t, err)
	return uid
}

// stuck lets everything pass but the last thing that the application brings, and
// dry runs: what no preflight foresees.
const stuck = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: stuck}
webhooks:
- name: stuck.story.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  timeoutSeconds: 1
  clientConfig: {url: "https://127.0.0.1:1/"}
  matchConditions: [{name: written, expression: "!(has(request.dryRun) && request.dryRun)"}]
  rules: [{apiGroups: [story.example.com], apiVersions: [v1], operations: [CREATE], resources: [caches]}]
`

// TestObjects moves an application without volumes to other namespaces: planned,
// cut off in the middle and taken back, moved, moved again, and taken back.
func TestObjects(t *testing.T) {
	g, ctx := ground(t)
	blog(ctx, t, g)
	// A part of it stands there already, with values of its own.
	must(t, g.Target.EnsureNamespace(ctx, "press"))
	must(t, g.Target.Apply(ctx, []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: press}, data: {theme: theirs, more: stays}}")))
	must(t, g.Target.Apply(ctx, []byte(stuck)))
	before := dump(ctx, t, g.Target)

	plan, err := g.Godwitctl(ctx, g.Source, "plan", "-f", manifest(t, "planned"))
	if err != nil {
		t.Fatalf("%v:\n%s", err, plan)
	}
	for _, want := range []string{
		"+ Deployment.apps press/web (from Deployment.apps blog/web)", "~ ConfigMap press/settings", "+ CustomResourceDefinition.apiextensions.k8s.io caches.story.example.com",
		"- data.theme: \"theirs\"", "+ PriorityClass.scheduling.k8s.io blog-urgent", "reference followed: ", "of which nothing is known there (no registry was asked)", "; 0 problems",
	} {
		if !strings.Contains(plan, want) {
			t.Errorf("the plan lacks %q:\n%s", want, plan)
		}
	}
	requireSame(t, "after the plan", before, dump(ctx, t, g.Target))

	cutOff(ctx, t, g)
	awaitSame(ctx, t, g.Target, before)
	_, err = g.Target.Kubectl(ctx, "delete", "validatingwebhookconfiguration", "stuck")
	must(t, err)
	before = dump(ctx, t, g.Target)

	moved(ctx, t, g, "first")
	requireMoved(ctx, t, g)
	there := dump(ctx, t, g.Target)
	moved(ctx, t, g, "second")
	requireSame(t, "after the second run", there, dump(ctx, t, g.Target))

	must(t, g.DeleteMigration(ctx, scenario.Namespace, "second"))
	must(t, g.DeleteMigration(ctx, scenario.Namespace, "first"))
	awaitSame(ctx, t, g.Target, before)
}

// blog has the application on the source, and an admin pair.
func blog(ctx context.Context, t *testing.T, g *scenario.Ground) {
	t.Helper()
	application, err := os.ReadFile("testdata/blog.yaml")
	must(t, err)
	must(t, g.Source.Apply(ctx, application))
	_, err = g.Source.Kubectl(ctx, "wait", "--for", "condition=Established", "crd/caches.story.example.com", "--timeout", "30s")
	must(t, err)
	must(t, g.Source.Apply(ctx, []byte(cacheResource)))
	must(t, g.Source.Apply(ctx, []byte(strings.ReplaceAll(cachePassword, "UID", cacheUID(ctx, t, g.Source, "blog-data")))))
	for _, c := range []scenario.Cluster{g.Source, g.Target} {
		must(t, g.EnsureLocation(ctx, c, scenario.Namespace, g.Store))
	}
	printed, err := g.Godwitctl(ctx, g.Target, "-n", scenario.Namespace, "generate", "clusterpair", "everything", "--admin")
	must(t, err)
	must(t, g.Source.Apply(ctx, []byte(printed)))
	must(t, g.AwaitPair(ctx, scenario.Namespace, "everything", scenario.Long))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		for _, args := range [][]string{
			{"delete", "namespace", "blog", "blog-data", "--timeout", "60s"}, {"delete", "crd", "caches.story.example.com"},
			{"delete", "validatingwebhookconfiguration", "blog-operator"}, {"delete", "clusterrolebinding,clusterrole", "blog-operator"},
			{"-n", scenario.Namespace, "delete", "clusterpairs.godwit.io", "everything", "--timeout", "60s"},
		} {
			if _, err := g.Source.Kubectl(ctx, append(args, "--ignore-not-found")...); err != nil {
				t.Error(err)
			}
		}
		if _, err := g.Target.Kubectl(ctx, "delete", "namespace", "press", "--ignore-not-found", "--timeout", "60s"); err != nil {
			t.Error(err)
		}
	})
}

func manifest(t *testing.T, name string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name+".yaml")
	must(t, os.WriteFile(file, []byte(strings.ReplaceAll(blogMigration, "NAME", name)), 0o600))
	return file
}

// cutOff begins a move that cannot end, and cancels it in the middle.
func cutOff(ctx context.Context, t *testing.T, g *scenario.Ground) {
	t.Helper()
	must(t, g.Source.Apply(ctx, []byte(strings.ReplaceAll(blogMigration, "NAME", "stuck"))))
	must(t, scenario.Await(ctx, scenario.Long, "the move to be in the middle", func(ctx context.Context) (bool, string, error) {
		there, err := scenario.Exists(ctx, g.Target, "-n", "press-data", "deployment/operator")
		return there, "", err
	}))
	_, err := g.Godwitctl(ctx, g.Source, "-n", scenario.Namespace, "cancel", "migration", "stuck")
	must(t, err)
	m, err := g.AwaitMigration(ctx, scenario.Namespace, "stuck", scenario.Long)
	must(t, err)
	if m.Status.Status == api.MigrationStatusSuccessful {
		t.Errorf("it went through: %s", scenario.Describe(m))
	}
	must(t, g.DeleteMigration(ctx, scenario.Namespace, "stuck"))
}

func moved(ctx context.Context, t *testing.T, g *scenario.Ground, name string) {
	t.Helper()
	must(t, g.Source.Apply(ctx, []byte(strings.ReplaceAll(blogMigration, "NAME", name))))
	m, err := g.AwaitMigration(ctx, scenario.Namespace, name, scenario.Long)
	must(t, err)
	if m.Status.Status != api.MigrationStatusSuccessful {
		t.Fatalf("%s: %+v", scenario.Describe(m), m.Status.Resources)
	}
	for _, r := range m.Status.Resources {
		if r.Status != api.MigrationStatusSuccessful {
			t.Errorf("%s %s/%s: %s", r.Kind, r.Namespace, r.Name, r.Reason)
		}
	}
}

// requireMoved looks at what has to change with the namespaces' names.
func requireMoved(ctx context.Context, t *testing.T, g *scenario.Ground) {
	t.Helper()
	for path, want := range map[string]string{
		"press configmap/settings {.data.database} {.data.theme} {.data.more}":                               "postgres://db.press-data.svc:5432/wp plain stays",
		"press service/web {.spec.ports[0].nodePort}":                                                        "31777",
		"press deployment/web {.spec.template.spec.containers[0].env[0].value} {.spec.replicas}":             "cache.press-data.svc.cluster.local:6379 2",
		"press cronjob/nightly {.spec.suspend}":                                                              "false",
		"press job/import {.spec.suspend}":                                                                   "true",
		"press-data rolebinding/front-reads {.subjects[0].namespace}":                                        "press",
		"press-data networkpolicy/from-front {.spec.ingress[0].from[0].namespaceSelector}":                   `{"matchLabels":{"kubernetes.io/metadata.name":"press"}}`,
		"press-data caches/pages {.spec.size}":                                                               "3",
		"press-data secret/pages-password {.metadata.ownerReferences[*].uid}":                                cacheUID(ctx, t, g.Target, "press-data"),
		"default clusterrolebinding/blog-operator {.subjects[*].namespace}":                                  "press-data",
		"default validatingwebhookconfiguration/blog-operator {.webhooks[0].clientConfig.service.namespace}": "press-data",
	} {
		namespace, rest, _ := strings.Cut(path, " ")
		object, field, _ := strings.Cut(rest, " ")
		got, err := g.Target.Kubectl(ctx, "-n", namespace, "get", object, "-o", "jsonpath="+field)
		must(t, err)
		if got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

// dumpedKinds are all that the story brings, and what it could disturb.
const dumpedKinds = "namespaces,serviceaccounts,configmaps,secrets,resourcequotas,limitranges,services,deployments.apps,statefulsets.apps,daemonsets.apps," +
	"ingresses,ingressclasses,networkpolicies,horizontalpodautoscalers,poddisruptionbudgets,cronjobs,jobs,roles,rolebindings,clusterroles,clusterrolebindings," +
	"priorityclasses,storageclasses,customresourcedefinitions,validatingwebhookconfigurations,mutatingwebhookconfigurations,persistentvolumeclaims"

// dump is a whole cluster by object, without what a server counts, what its
// controllers tell, and what Godwit keeps for itself.
func dump(ctx context.Context, t *testing.T, c scenario.Cluster) map[string]string {
	t.Helper()
	out, err := c.Kubectl(ctx, "get", dumpedKinds, "-A", "-o", "json")
	must(t, err)
	var list struct {
		Items []map[string]any `json:"items"`
	}
	must(t, json.Unmarshal([]byte(out), &list))
	dumped := make(map[string]string)
	for _, item := range list.Items {
		metadata := item["metadata"].(map[string]any)
		if metadata["namespace"] == scenario.Namespace {
			continue
		}
		for _, field := range []string{"resourceVersion", "generation", "uid", "creationTimestamp", "managedFields"} {
			delete(metadata, field)
		}
		delete(item, "status")
		if annotations, ok := metadata["annotations"].(map[string]any); ok {
			delete(annotations, "deployment.kubernetes.io/revision")
			if len(annotations) == 0 {
				delete(metadata, "annotations")
			}
		}
		text, err := json.Marshal(item)
		must(t, err)
		dumped[fmt.Sprintf("%v %v/%v", item["kind"], metadata["namespace"], metadata["name"])] = string(text)
	}
	return dumped
}

// differs tells of each object that is not the same in both.
func differs(was, is map[string]string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if is[name] != was[name] {
			all = append(all, fmt.Sprintf("%s was %s and is %s", name, was[name], is[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if was[name] == "" {
			all = append(all, fmt.Sprintf("%s is new: %s", name, is[name]))
		}
	}
	return all
}

func requireSame(t *testing.T, when string, was, is map[string]string) {
	t.Helper()
	for _, line := range differs(was, is) {
		t.Errorf("%s: %s", when, line)
	}
}

// awaitSame gives namespaces the time to end.
func awaitSame(ctx context.Context, t *testing.T, c scenario.Cluster, was map[string]string) {
	t.Helper()
	must(t, scenario.Await(ctx, scenario.Long, "the target to be as before", func(ctx context.Context) (bool, string, error) {
		lines := differs(was, dump(ctx, t, c))
		return len(lines) == 0, strings.Join(lines, "\n"), nil
	}))
}
