package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godwit-io/godwit/test/scenario"
)

// shop is an application without volumes: what stands around a workload. Its web
// server runs, and asks for an image that only the target's map makes real.
const shop = `
{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: front}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: front}, data: {upstream: "http://web.front.svc:80/", other: stays}}
---
{apiVersion: v1, kind: Secret, metadata: {name: login, namespace: front}, stringData: {password: secret}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: front, labels: {tier: front}}, spec: {selector: {app: web}, ports: [{port: 80}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: front}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      serviceAccountName: web
      containers:
      - {name: web, image: "sandbox.local/busybox:1", imagePullPolicy: IfNotPresent, command: [sleep, "100000"]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: pulled, namespace: front}
spec:
  replicas: 0
  selector: {matchLabels: {app: pulled}}
  template:
    metadata: {labels: {app: pulled}}
    spec: {containers: [{name: c, image: "1.1.1.1:5000/abc:test"}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: front}
spec: {schedule: "0 3 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: "sandbox.local/busybox:1"}]}}}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: front}
spec: {maxReplicas: 2, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: pulled}, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]}
---
{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: web, namespace: front}, spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: inside, namespace: front}
spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: front}}}]}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: front}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
---
apiVersion: godwit.io/v1alpha1
kind: ResourceTransformation
metadata: {name: service-transform, namespace: front}
specs:
  transformSpecs:
  - resource: "/v1/Service"
    selectors: {tier: front}
    paths:
    - {path: "spec.ports[0].port", value: "8080", type: int, operation: modify}
`

const shopMigration = `
apiVersion: godwit.io/v1alpha1
kind: Migration
metadata: {name: NAME, namespace: front}
spec:
  clusterPair: prodcluster
  namespaces: [front]
  includeVolumes: false
  startApplications: true
  rewriteServiceNames: true
  transformSpecs: [service-transform]
`

// dumped is a namespace of the target, without what a server counts.
func dumped(ctx context.Context, t *testing.T, c scenario.Cluster, namespace string) string {
	t.Helper()
	out, err := c.Kubectl(ctx, "-n", namespace, "get", "deployments,services,configmaps,secrets,serviceaccounts,networkpolicies,ingresses,cronjobs,hpa,pdb", "-o", "json")
	must(t, err)
	var list struct {
		Items []map[string]any `json:"items"`
	}
	must(t, json.Unmarshal([]byte(out), &list))
	for _, item := range list.Items {
		delete(item, "status")
		metadata := item["metadata"].(map[string]any)
		for _, field := range []string{"resourceVersion", "generation", "uid", "creationTimestamp", "managedFields"} {
			delete(metadata, field)
		}
		if annotations, ok := metadata["annotations"].(map[string]any); ok {
			delete(annotations, "deployment.kubernetes.io/revision")
		}
	}
	text, err := json.MarshalIndent(list.Items, "", " ")
	must(t, err)
	return string(text)
}

func podsOf(ctx context.Context, t *testing.T, c scenario.Cluster, namespace, selector string) string {
	t.Helper()
	out, err := c.Kubectl(ctx, "-n", namespace, "get", "pods", "-l", selector, "--no-headers", "-o",
		"custom-columns=UID:.metadata.uid,RESTARTS:.status.containerStatuses[0].restartCount")
	must(t, err)
	return strings.Join(strings.Fields(out), " ")
}

// TestObjects brings an application's objects to where some stand already: a
// dispute stops it before anything is touched; Overwrite adopts what runs without
// a restart, by the rules that both sides bring; and deleting the Migration takes
// all of it back.
func TestObjects(t *testing.T) {
	g, ctx := besideOthers(t)
	for _, c := range []scenario.Cluster{g.Source, g.Target} {
		_, err := c.Kubectl(ctx, "delete", "namespace", "front", "velero", "--ignore-not-found", "--timeout", "90s")
		must(t, err)
		must(t, c.EnsureNamespace(ctx, "front"))
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		for _, c := range []scenario.Cluster{g.Source, g.Target} {
			_, err := c.Kubectl(ctx, "delete", "namespace", "front", "velero", "--ignore-not-found", "--timeout", "90s")
			if err != nil {
				t.Error(err)
			}
		}
	})
	must(t, g.Source.Apply(ctx, []byte(shop)))
	// On the target the same web server runs already, with a scale of its own.
	must(t, g.Target.EnsureNamespace(ctx, "velero"))
	for _, file := range []string{"dce-change-image.yaml", "dce-migration-plugin.yaml"} {
		manifest, err := os.ReadFile(filepath.Join("testdata", file))
		must(t, err)
		must(t, g.Target.ApplyAsUser(ctx, manifest))
	}
	theirs := strings.Split(shop, "\n---\n")
	standing := strings.Join([]string{theirs[0], strings.Replace(theirs[4], "replicas: 1", "replicas: 2", 1), strings.Replace(theirs[1], "other: stays", "other: theirs", 1)}, "\n---\n")
	must(t, g.Target.Apply(ctx, []byte(standing)))
	must(t, g.Target.Rollout(ctx, "front", "deployment/web"))
	must(t, g.Pair(ctx, "front", "prodcluster"))
	before, pods := dumped(ctx, t, g.Target, "front"), podsOf(ctx, t, g.Target, "front", "app=web")

	file := filepath.Join(t.TempDir(), "m.yaml")
	must(t, os.WriteFile(file, []byte(strings.ReplaceAll(shopMigration, "NAME", "planned")), 0o600))
	plan, err := g.Godwitctl(ctx, g.Source, "plan", "-f", file)
	if err == nil {
		t.Errorf("the plan of a disputed move succeeds:\n%s", plan)
	}
	for _, want := range []string{
		"problem: ConfigMap front/settings stands on the target with other values in", "data.other (owned by kubectl)",
		"spec.replicas (owned by kubectl)", "+ Service front/web", "changed by ResourceTransformation front/service-transform specs.transformSpecs[0].paths[0]",
		"changed by ConfigMap velero/change-image-name-config key case1",
	} {
		if !strings.Contains(plan, want) {
			t.Errorf("the plan lacks %q", want)
		}
	}
	t.Log(plan)
	must(t, g.Source.Apply(ctx, []byte(strings.ReplaceAll(shopMigration, "NAME", "disputed"))))
	says(ctx, t, g.Source, "migrations.godwit.io", "front", "disputed", "ConfigMap front/settings stands on the target with other values in", "data.other (owned by kubectl)")
	if now := dumped(ctx, t, g.Target, "front"); now != before {
		t.Errorf("a move in dispute touched the target:\n%s\nwas\n%s", now, before)
	}

	overwrite := strings.ReplaceAll(shopMigration, "NAME", "adopting") + "  conflictResolution: Overwrite\n  preserveResourcesOnDeletion: false\n  overrides:\n  - resourceSelectors: [{apiVersion: apps/v1, kind: Deployment, name: web}]\n    patch: '[{op: replace, path: /spec/replicas, value: 2}]'\n"
	must(t, g.Source.Apply(ctx, []byte(overwrite)))
	m, err := g.AwaitSuccess(ctx, "front", "adopting", scenario.Long)
	must(t, err)
	if now := podsOf(ctx, t, g.Target, "front", "app=web"); now != pods {
		t.Errorf("adopted with a restart: %s, was %s", now, pods)
	}
	for path, want := range map[string]string{
		"deployment/pulled {.spec.template.spec.containers[0].image}": "2.2.2.2:3000/abc:test",
		"service/web {.spec.ports[0].port}":                           "8080",
		"configmap/settings {.data.other}":                            "stays",
		"deployment/web {.spec.replicas}":                             "2",
	} {
		object, field, _ := strings.Cut(path, " ")
		got, err := g.Target.Kubectl(ctx, "-n", "front", "get", object, "-o", "jsonpath="+field)
		must(t, err)
		if got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	for _, r := range m.Status.Resources {
		if r.Kind == "Service" && (len(r.TransformedBy) != 1 || !strings.Contains(r.TransformedBy[0], "service-transform")) {
			t.Errorf("Service %s was transformed by %v", r.Name, r.TransformedBy)
		}
	}
	must(t, g.DeleteMigration(ctx, "front", "adopting"))
	must(t, scenario.Await(ctx, scenario.Soon, "the target to be as before", func(ctx context.Context) (bool, string, error) {
		now := dumped(ctx, t, g.Target, "front")
		return now == before, now, nil
	}))
	if now := podsOf(ctx, t, g.Target, "front", "app=web"); now != pods {
		t.Errorf("taken back with a restart: %s, was %s", now, pods)
	}
}
