package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// operatorImage is the operator and the Redis that it runs.
const operatorImage = "godwit-io/story-operator:dev"

const journalMigration = `apiVersion: godwit.io/v1alpha1
kind: Migration
metadata: {name: NAME, namespace: godwit-system}
spec:
  clusterPair: journal
  namespaces: [journal, journal-data]
  namespaceMapping: {journal: gazette, journal-data: gazette-data}
  startApplications: true
  rewriteServiceNames: true
  includeOptionalResourceTypes: [Job]
  conflictResolution: Overwrite
`

const pages = "{apiVersion: story.example.com/v1, kind: Cache, metadata: {name: pages, namespace: NAMESPACE}, spec: {megabytes: MEGABYTES}}"

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

// TestApplication moves what an application of some size is made of to other
// namespaces: it fails in the middle, with its database running there already, and
// is taken back; then it is moved, answers there from what came along and by what
// its operator makes anew; and is moved again, which writes nothing.
func TestApplication(t *testing.T) {
	g, ctx := besideOthers(t)
	startJournal(ctx, t, g)
	// A part of it stands there already, with values of its own.
	must(t, g.Target.EnsureNamespace(ctx, "gazette"))
	must(t, g.Target.Apply(ctx, []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: scripts, namespace: gazette}, data: {cache: theirs, more: stays}}")))
	must(t, g.Target.Apply(ctx, []byte(stuck)))
	_, err := g.Target.Kubectl(ctx, "-n", "gazette", "wait", "--for", "create", "serviceaccount/default", "configmap/kube-root-ca.crt", "--timeout", "60s")
	must(t, err)
	before := dump(ctx, t, g.Target, false)

	failInTheMiddle(ctx, t, g)
	must(t, scenario.Await(ctx, scenario.Long, "the target to be as before", func(ctx context.Context) (bool, string, error) {
		lines := differs(before, dump(ctx, t, g.Target, false))
		return len(lines) == 0, strings.Join(lines, "\n"), nil
	}))
	_, err = g.Target.Kubectl(ctx, "delete", "validatingwebhookconfiguration", "stuck")
	must(t, err)

	moveJournal(ctx, t, g, "journal-first", "")
	requireMoved(ctx, t, g)
	there := dump(ctx, t, g.Target, true)
	// Its volume is the target's now.
	moveJournal(ctx, t, g, "journal-second", "  includeVolumes: false\n")
	for _, line := range differs(there, dump(ctx, t, g.Target, true)) {
		t.Errorf("the second run wrote: %s", line)
	}
	for _, name := range []string{"journal-second", "journal-first"} {
		must(t, g.DeleteMigration(ctx, scenario.Namespace, name))
	}
	for _, namespaces := range []string{"journal*", "gazette*"} {
		must(t, g.AwaitNothingLeftOf(ctx, namespaces, scenario.Soon))
	}
}

// startJournal has the application run on the source, and an admin pair.
func startJournal(ctx context.Context, t *testing.T, g *scenario.Ground) {
	t.Helper()
	program := filepath.Join(g.Root, "bin", "story-operator")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./test/e2e/operator")
	build.Dir, build.Env = g.Root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the operator: %v: %s", err, out)
	}
	image := scenario.Image{Name: operatorImage, Archive: program + "-image.tar"}
	must(t, g.AddImage(ctx, image, "--copy", program+"=/operator", "--from-deb", "redis-server", "--without", "perl,perl-base,perl-modules-5.36,libperl5.36,dpkg,tar,debconf,init-system-helpers,libdb5.3,locales,adduser,passwd,netbase,sysvinit-utils,lsb-base"))

	manifest, err := os.ReadFile("testdata/journal.yaml")
	must(t, err)
	certificate, key := webhookCertificate(t)
	application := strings.NewReplacer("DEMO-APP", g.AppImage.Name, "OPERATOR", operatorImage, "WEBHOOK-CERT", certificate, "WEBHOOK-KEY", key).Replace(string(manifest))
	t.Cleanup(func() { removeJournal(context.WithoutCancel(ctx), t, g) })
	removeJournal(ctx, t, g)
	must(t, g.Source.Apply(ctx, []byte(application)))
	pairAsAdmin(ctx, t, g, "journal")
	must(t, g.Source.Rollout(ctx, "journal-data", "deployment/operator"))
	// Its webhook is asked by a Service, which takes a moment longer.
	must(t, scenario.Await(ctx, scenario.Soon, "the operator to be asked", func(ctx context.Context) (bool, string, error) {
		err := g.Source.Apply(ctx, []byte(cacheOf("journal-data", 16)))
		return err == nil, fmt.Sprint(err), nil
	}))
	must(t, g.Source.Rollout(ctx, "journal-data", "statefulset/db"))
	must(t, g.Source.Rollout(ctx, "journal", "deployment/web"))
	awaitPage(ctx, t, g.Source, "journal")
}

func cacheOf(namespace string, megabytes int) string {
	return strings.NewReplacer("NAMESPACE", namespace, "MEGABYTES", fmt.Sprint(megabytes)).Replace(pages)
}

// webhookCertificate is one that the operator's Service may show under both of
// its names.
func webhookCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "operator"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"operator.journal-data.svc", "operator.gazette-data.svc"},
		IsCA:     true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	text := func(kind string, data []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}))
	}
	return text("CERTIFICATE", signed), text("PRIVATE KEY", encoded)
}

// removeJournal takes all of it from both clusters.
func removeJournal(ctx context.Context, t *testing.T, g *scenario.Ground) {
	t.Helper()
	for _, args := range [][]string{
		{"migrations.godwit.io", "journal-stuck", "journal-first", "journal-second"}, {"clusterpairs.godwit.io", "journal"},
	} {
		if _, err := g.Source.Kubectl(ctx, append([]string{"-n", scenario.Namespace, "delete", "--ignore-not-found", "--timeout", "90s"}, args...)...); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []scenario.Cluster{g.Source, g.Target} {
		for _, args := range [][]string{
			// First what would ask an operator that is no more.
			{"delete", "validatingwebhookconfiguration", "journal-operator", "stuck"},
			{"delete", "namespace", "journal", "journal-data", "gazette", "gazette-data", "--timeout", "120s"},
			{"delete", "crd", "caches.story.example.com", "--timeout", "60s"},
			{"delete", "clusterrolebinding,clusterrole", "journal-operator"},
			{"delete", "priorityclass", "journal-urgent"}, {"delete", "ingressclass", "journal-edge"},
		} {
			if _, err := c.Kubectl(ctx, append(args, "--ignore-not-found")...); err != nil {
				t.Error(err)
			}
		}
	}
}

// failInTheMiddle begins a move that cannot end, and cancels it when its database
// runs on the target.
func failInTheMiddle(ctx context.Context, t *testing.T, g *scenario.Ground) {
	t.Helper()
	must(t, g.Source.Apply(ctx, []byte(strings.ReplaceAll(journalMigration, "NAME", "journal-stuck"))))
	must(t, scenario.Await(ctx, scenario.Long, "the move to be in the middle", func(ctx context.Context) (bool, string, error) {
		pods, err := scenario.Get[corev1.PodList](ctx, g.Target, "-n", "gazette-data", "pods", "--field-selector", "metadata.name=db-0,status.phase=Running")
		return len(pods.Items) > 0, "", err
	}))
	_, err := g.Godwitctl(ctx, g.Source, "-n", scenario.Namespace, "cancel", "migration", "journal-stuck")
	must(t, err)
	m, err := g.AwaitMigration(ctx, scenario.Namespace, "journal-stuck", scenario.Long)
	must(t, err)
	if m.Status.Status == api.MigrationStatusSuccessful {
		t.Errorf("it went through: %s", scenario.Describe(m))
	}
	must(t, g.DeleteMigration(ctx, scenario.Namespace, "journal-stuck"))
}

func moveJournal(ctx context.Context, t *testing.T, g *scenario.Ground, name, more string) {
	t.Helper()
	must(t, g.Source.Apply(ctx, []byte(strings.ReplaceAll(journalMigration, "NAME", name)+more)))
	m, err := g.AwaitSuccess(ctx, scenario.Namespace, name, scenario.Long)
	must(t, err)
	for _, r := range m.Status.Resources {
		if r.Status != api.MigrationStatusSuccessful {
			t.Errorf("%s %s/%s: %s", r.Kind, r.Namespace, r.Name, r.Reason)
		}
		if r.Kind == "Pod" || r.Name == "cache-pages" {
			t.Errorf("%s %s/%s moved, and its owner makes it anew", r.Kind, r.Namespace, r.Name)
		}
	}
}

// requireMoved looks at what has to change with the namespaces' names, and at what
// runs there.
func requireMoved(ctx context.Context, t *testing.T, g *scenario.Ground) {
	t.Helper()
	for _, workload := range []string{"gazette deployment/web", "gazette-data statefulset/db", "gazette-data deployment/operator", "gazette-data deployment/cache-pages"} {
		namespace, name, _ := strings.Cut(workload, " ")
		must(t, g.Target.Rollout(ctx, namespace, name))
	}
	awaitPage(ctx, t, g.Target, "gazette")
	for path, want := range map[string]string{
		"gazette configmap/scripts {.data.cache} {.data.more}":                                                  "cache.gazette-data.svc:6379 stays",
		"gazette service/web {.spec.ports[0].nodePort}":                                                         "31778",
		"gazette deployment/web {.spec.template.spec.containers[0].env[0].value} {.spec.replicas}":              "db.gazette-data.svc.cluster.local 2",
		"gazette job/index {.status.active}":                                                                    "1",
		"gazette cronjob/nightly {.spec.suspend}":                                                               "false",
		"gazette hpa/web {.spec.minReplicas} {.spec.scaleTargetRef.name}":                                       "2 web",
		"gazette resourcequota/bound {.spec.hard.pods}":                                                         "20",
		"gazette ingress/web {.spec.ingressClassName}":                                                          "journal-edge",
		"gazette-data rolebinding/front-reads {.subjects[0].namespace}":                                         "gazette",
		"gazette-data networkpolicy/from-front {.spec.ingress[0].from[0].namespaceSelector}":                    `{"matchLabels":{"kubernetes.io/metadata.name":"gazette"}}`,
		"gazette-data caches/pages {.spec.megabytes} {.status.served}":                                          "16 true",
		"default clusterrolebinding/journal-operator {.subjects[*].namespace}":                                  "gazette-data",
		"default validatingwebhookconfiguration/journal-operator {.webhooks[0].clientConfig.service.namespace}": "gazette-data",
	} {
		namespace, rest, _ := strings.Cut(path, " ")
		object, field, _ := strings.Cut(rest, " ")
		got, err := g.Target.Kubectl(ctx, "-n", namespace, "get", object, "-o", "jsonpath="+field)
		must(t, err)
		if got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	owner, err := g.Target.Kubectl(ctx, "-n", "gazette-data", "get", "deployment/cache-pages", "-o", "jsonpath={.metadata.ownerReferences[0].uid}")
	must(t, err)
	uid, err := g.Target.Kubectl(ctx, "-n", "gazette-data", "get", "caches/pages", "-o", "jsonpath={.metadata.uid}")
	must(t, err)
	if owner != uid {
		t.Errorf("the cache is owned by %s, and the target's custom resource is %s", owner, uid)
	}
	// The webhook is asked there, and answers.
	if err := g.Target.Apply(ctx, []byte(cacheOf("gazette-data", 1000))); err == nil || !strings.Contains(err.Error(), "a Cache has 1 to 64 megabytes, not 1000") {
		t.Errorf("the operator's webhook on the target says: %v", err)
	}
}

// awaitPage asks the front, which asks the database and the cache.
func awaitPage(ctx context.Context, t *testing.T, c scenario.Cluster, namespace string) {
	t.Helper()
	must(t, scenario.Await(ctx, scenario.Soon, "the front of "+namespace, func(ctx context.Context) (bool, string, error) {
		page, err := c.Kubectl(ctx, "get", "--raw", "/api/v1/namespaces/"+namespace+"/services/web:80/proxy/cgi-bin/page")
		if err != nil {
			return false, err.Error(), nil //nolint:nilerr // it does not answer yet
		}
		rest, found := strings.CutPrefix(strings.TrimSpace(page), "posts 1000 hits ")
		return found && rest != "", page, nil
	}))
}

// dumpedKinds are all that the story brings.
const dumpedKinds = "namespaces,serviceaccounts,configmaps,secrets,resourcequotas,limitranges,services,deployments.apps,statefulsets.apps," +
	"ingresses,ingressclasses,networkpolicies,horizontalpodautoscalers,poddisruptionbudgets,cronjobs,jobs,roles,rolebindings,clusterroles,clusterrolebindings," +
	"priorityclasses,customresourcedefinitions,validatingwebhookconfigurations,persistentvolumeclaims,persistentvolumes"

// dump is all of the story's objects in a cluster, without what a server counts
// and what its controllers tell; with what Godwit wrote and when, where asked.
func dump(ctx context.Context, t *testing.T, c scenario.Cluster, writes bool) map[string]string {
	t.Helper()
	out, err := c.Kubectl(ctx, "get", dumpedKinds, "-A", "-o", "json", "--show-managed-fields")
	must(t, err)
	var list struct {
		Items []map[string]any `json:"items"`
	}
	must(t, json.Unmarshal([]byte(out), &list))
	dumped := make(map[string]string)
	for _, item := range list.Items {
		metadata := item["metadata"].(map[string]any)
		if !ofJournal(item, metadata) {
			continue
		}
		written, _ := metadata["managedFields"].([]any)
		for _, field := range []string{"resourceVersion", "generation", "uid", "creationTimestamp", "managedFields"} {
			delete(metadata, field)
		}
		delete(item, "status")
		if writes {
			metadata["written"] = slices.DeleteFunc(written, func(w any) bool { return w.(map[string]any)["manager"] != "godwit" })
		}
		if annotations, ok := metadata["annotations"].(map[string]any); ok {
			delete(annotations, "deployment.kubernetes.io/revision")
		}
		text, err := json.Marshal(item)
		must(t, err)
		dumped[fmt.Sprintf("%v %v/%v", item["kind"], metadata["namespace"], metadata["name"])] = string(text)
	}
	return dumped
}

// ofJournal tells the story's objects from those of the stories beside it.
func ofJournal(item, metadata map[string]any) bool {
	namespace, _ := metadata["namespace"].(string)
	name, _ := metadata["name"].(string)
	if item["kind"] == "PersistentVolume" {
		spec, _ := item["spec"].(map[string]any)
		claim, _ := spec["claimRef"].(map[string]any)
		namespace, _ = claim["namespace"].(string)
		return strings.HasPrefix(namespace, "gazette")
	}
	if namespace != "" {
		return strings.HasPrefix(namespace, "gazette")
	}
	return strings.HasPrefix(name, "gazette") || strings.HasPrefix(name, "journal") || name == "caches.story.example.com" || name == "stuck"
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
