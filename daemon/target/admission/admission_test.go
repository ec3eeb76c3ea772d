package admission_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/godwit-io/godwit/daemon/target/admission"
	"github.com/godwit-io/godwit/pairing"
)

// cluster is a target with a few namespaces, roles and objects.
type cluster struct {
	levels   map[string]string
	standing map[string]*unstructured.Unstructured
	roles    map[string][]rbacv1.PolicyRule
}

func (c *cluster) Kind(_ context.Context, gvk schema.GroupVersionKind) (admission.Kind, error) {
	if gvk.Kind == "Unknown" {
		return admission.Kind{}, nil
	}
	plural := strings.ToLower(gvk.Kind) + "s"
	if plural == "networkpolicys" {
		plural = "networkpolicies"
	}
	scoped := map[string]bool{
		"ClusterRole": true, "ClusterRoleBinding": true, "PersistentVolume": true, "StorageClass": true, "CustomResourceDefinition": true,
		"MutatingWebhookConfiguration": true, "ValidatingAdmissionPolicy": true, "APIService": true, "PriorityClass": true, "Node": true,
	}
	return admission.Kind{Resource: plural, Namespaced: !scoped[gvk.Kind], Served: true}, nil
}

func (c *cluster) Standing(_ context.Context, obj *unstructured.Unstructured) (now, then *unstructured.Unstructured, err error) {
	now = c.standing[obj.GetKind()+" "+obj.GetName()]
	if now == nil {
		return nil, obj, nil
	}
	merged := now.DeepCopy()
	merge(merged.Object, obj.Object)
	return now, merged, nil
}

// merge is as much of a server-side apply as these tests need.
func merge(into, from map[string]any) {
	for key, value := range from {
		was, both := into[key].(map[string]any)
		is, also := value.(map[string]any)
		if both && also {
			merge(was, is)
			continue
		}
		if list, ok := value.([]any); ok && key == "containers" {
			mergeFirst(into, list)
			continue
		}
		into[key] = value
	}
}

func mergeFirst(into map[string]any, list []any) {
	first := into["containers"].([]any)[0].(map[string]any)
	maps.Copy(first, list[0].(map[string]any))
}

func (c *cluster) NamespaceAdmin(context.Context) ([]rbacv1.PolicyRule, error) {
	return c.roles["admin"], nil
}

func (c *cluster) RulesBehind(_ context.Context, _ string, role rbacv1.RoleRef) ([]rbacv1.PolicyRule, bool, error) {
	rules, found := c.roles[role.Name]
	return rules, found, nil
}

func (c *cluster) PodSecurity(_ context.Context, namespace string) (string, error) {
	return c.levels[namespace], nil
}

func rule(group, resources, verbs string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: strings.Split(resources, ","), Verbs: strings.Split(verbs, ",")}
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	const all = "get,list,watch,create,update,patch,delete,deletecollection"
	c := &cluster{
		levels: map[string]string{"trusted": "privileged", "strict": "restricted"},
		roles: map[string][]rbacv1.PolicyRule{
			"admin": {
				rule("", "pods,pods/exec,services,secrets,configmaps,serviceaccounts,persistentvolumeclaims,replicationcontrollers", all),
				rule("", "resourcequotas,limitranges,endpoints,namespaces", "get,list,watch"),
				rule("apps", "deployments,statefulsets,daemonsets,replicasets", all),
				rule("batch", "jobs,cronjobs", all),
				rule("networking.k8s.io", "networkpolicies,ingresses", all),
				rule("rbac.authorization.k8s.io", "roles,rolebindings", all),
				rule("operators.coreos.com", "subscriptions", all),
			},
			"view":          {rule("", "pods,configmaps", "get,list,watch")},
			"cluster-admin": {rule("*", "*", "*")},
			"quota-keeper":  {rule("", "resourcequotas", "update")},
			"own":           {rule("", "secrets", "get"), rule("cms.example.com", "*", "*")},
		},
		standing: map[string]*unstructured.Unstructured{},
	}
	for _, text := range []string{
		"{apiVersion: v1, kind: Namespace, metadata: {name: cms, labels: {team: web}}}",
		"{apiVersion: v1, kind: ResourceQuota, metadata: {name: bound, namespace: cms}}",
		"{apiVersion: v1, kind: ResourceQuota, metadata: {name: ours, namespace: cms, annotations: {godwit.io/owner: p1}}}",
		"{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: owners, namespace: cms}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}",
		"{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: strong, namespace: cms}, rules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]}",
		"{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent, namespace: cms}, spec: {template: {spec: {containers: [{name: agent, image: trusted, securityContext: {privileged: true}}]}}}}",
	} {
		obj := object(t, text)
		c.standing[obj.GetKind()+" "+obj.GetName()] = &obj
	}
	return c
}

func object(t *testing.T, text string) unstructured.Unstructured {
	t.Helper()
	var obj unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(text), &obj.Object); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return obj
}

func namespaced() admission.Policy {
	return admission.Policy{
		Scope: pairing.Scope{Namespaces: []string{"cms", "trusted", "strict", "kube-system", "godwit-system"}},
		Owner: "p1", OwnNamespace: "godwit-system",
	}
}

func pod(namespace, spec string) string {
	return "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: " + namespace + "}, spec: " + spec + "}"
}

func role(rules string) string {
	return "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: r, namespace: cms}, rules: " + rules + "}"
}

func binding(name, rest string) string {
	return "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: " + name + ", namespace: cms}, " + rest + "}"
}

func grants(kind, name string) string {
	return "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: " + kind + ", name: " + name + "}, subjects: [{kind: ServiceAccount, name: app}]"
}

// attack is an object, and words of why it is refused.
type attack struct{ object, words string }

// attacks are what the owner of a source with a namespaced pair may try.
func attacks() map[string]attack {
	return map[string]attack{
		"object of another namespace":       {"{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: shop}}", "shop"},
		"object of Godwit's namespace":      {"{apiVersion: v1, kind: Secret, metadata: {name: godwit-authority, namespace: godwit-system}}", "Godwit's own"},
		"object of kube-system":             {"{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: kube-system}}", "Kubernetes' own"},
		"namespace of somebody else":        {"{apiVersion: v1, kind: Namespace, metadata: {name: shop}}", "shop"},
		"namespaced kind without namespace": {"{apiVersion: v1, kind: Secret, metadata: {name: s}}", "without a namespace"},
		"ClusterRole":                       {"{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: r}}", "without a namespace"},
		"ClusterRole in a namespace":        {"{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: r, namespace: cms}}", "cluster-scoped"},
		"ClusterRoleBinding":                {"{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: r, namespace: cms}}", "cluster-scoped"},
		"CustomResourceDefinition":          {"{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: r, namespace: cms}}", "cluster-scoped"},
		"webhook":                           {"{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingWebhookConfiguration, metadata: {name: r, namespace: cms}}", "cluster-scoped"},
		"admission policy":                  {"{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {name: r, namespace: cms}}", "cluster-scoped"},
		"APIService":                        {"{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: r, namespace: cms}}", "cluster-scoped"},
		"PersistentVolume of another":       {"{apiVersion: v1, kind: PersistentVolume, metadata: {name: pv}}", "without a namespace"},
		"StorageClass":                      {"{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: sc}}", "without a namespace"},
		"kind that is not served":           {"{apiVersion: x.example.com/v1, kind: Unknown, metadata: {name: x, namespace: cms}}", "does not serve"},
		"our own objects":                   {"{apiVersion: godwit.io/v1alpha1, kind: ClusterPair, metadata: {name: x, namespace: cms}}", "data mover"},
		"stork's objects":                   {"{apiVersion: stork.libopenstorage.org/v1alpha1, kind: Migration, metadata: {name: x, namespace: cms}}", "data mover"},
		"Endpoints across namespaces":       {"{apiVersion: v1, kind: Endpoints, metadata: {name: e, namespace: cms}}", "does not let"},
		"EndpointSlice across namespaces":   {"{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e, namespace: cms}}", "does not let"},
		"quota of the target lifted":        {"{apiVersion: v1, kind: ResourceQuota, metadata: {name: bound, namespace: cms}, spec: {hard: {cpu: 1M}}}", "not this pair's"},
		"OLM installs with its own rights":  {"{apiVersion: operators.coreos.com/v1alpha1, kind: ClusterServiceVersion, metadata: {name: x, namespace: cms}}", "operator's rights"},
		"Helm controller installs":          {"{apiVersion: helm.cattle.io/v1, kind: HelmChart, metadata: {name: x, namespace: cms}}", "operator's rights"},
		"Flux applies":                      {"{apiVersion: kustomize.toolkit.fluxcd.io/v1, kind: Kustomization, metadata: {name: x, namespace: cms}}", "operator's rights"},
		"Role that escalates":               {role("[{apiGroups: [rbac.authorization.k8s.io], resources: [roles], verbs: [escalate, bind]}]"), "grants more"},
		"Role over everything":              {role("[{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]"), "grants more"},
		"Role over quotas":                  {role("[{apiGroups: [''], resources: [resourcequotas], verbs: [update]}]"), "grants more"},
		"Role that impersonates":            {role("[{apiGroups: [''], resources: [serviceaccounts], verbs: [impersonate]}]"), "grants more"},
		"Role to use an SCC":                {role("[{apiGroups: [security.openshift.io], resources: [securitycontextconstraints], verbs: [use]}]"), "grants more"},
		"Role with an own and a foreign":    {role("[{apiGroups: [cms.example.com, ''], resources: [resourcequotas], verbs: ['*']}]"), "grants more"},
		"Role over our kinds":               {role("[{apiGroups: [godwit.io], resources: ['*'], verbs: ['*']}]"), "grants more"},
		"Role with URLs":                    {role("[{nonResourceURLs: ['/metrics'], verbs: [get]}]"), "grants more"},
		"Role that is malformed":            {role("everything"), "malformed"},
		"Role that keeps the strong rules":  {"{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: strong, namespace: cms}}", "grants more"},
		"RoleBinding to cluster-admin":      {binding("b", grants("ClusterRole", "cluster-admin")), "grants more"},
		"RoleBinding to a stronger role":    {binding("b", grants("Role", "quota-keeper")), "grants more"},
		"RoleBinding to a role to come":     {binding("b", grants("Role", "later")), "not on this cluster"},
		"RoleBinding without a role":        {binding("b", "subjects: [{kind: ServiceAccount, name: app}]"), "does not say"},
		"RoleBinding joins the owners":      {binding("owners", "subjects: [{kind: ServiceAccount, name: app}]"), "grants more"},
		"RoleBinding for strangers":         {binding("b", "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: view}, subjects: [{kind: Group, name: 'system:unauthenticated'}]"), "without any login"},
		"privileged pod":                    {pod("cms", "{containers: [{name: c, securityContext: {privileged: true}}]}"), "privileged"},
		"privileged init container":         {pod("cms", "{containers: [{name: c}], initContainers: [{name: i, securityContext: {privileged: true}}]}"), "privileged"},
		"privileged ephemeral container":    {pod("cms", "{containers: [{name: c}], ephemeralContainers: [{name: i, securityContext: {privileged: true}}]}"), "privileged"},
		"pod in a strict namespace":         {pod("strict", "{hostPID: true, containers: [{name: c}]}"), "hostPID"},
		"pod with the host's files":         {pod("cms", "{containers: [{name: c}], volumes: [{name: v, hostPath: {path: /}}]}"), "hostPath"},
		"pod in the host's network":         {pod("cms", "{hostNetwork: true, containers: [{name: c}]}"), "hostNetwork"},
		"pod with every capability":         {pod("cms", "{containers: [{name: c, securityContext: {capabilities: {add: [SYS_ADMIN]}}}]}"), "capabilities"},
		"pod that is malformed":             {pod("cms", "{hostPID: maybe, containers: [{name: c}]}"), "malformed"},
		"Deployment of privileged pods":     {"{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: cms}, spec: {template: {spec: {containers: [{name: c, securityContext: {privileged: true}}]}}}}", "privileged"},
		"CronJob of privileged pods":        {"{apiVersion: batch/v1, kind: CronJob, metadata: {name: d, namespace: cms}, spec: {jobTemplate: {spec: {template: {spec: {hostIPC: true, containers: [{name: c}]}}}}}}", "hostIPC"},
		"custom workload, privileged":       {"{apiVersion: kubeflow.org/v1, kind: MPIJob, metadata: {name: d, namespace: cms}, spec: {replicas: {Worker: {template: {spec: {hostPID: true, containers: [{name: c}]}}}}}}", "hostPID"},
		"image into a privileged DaemonSet": {"{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent, namespace: cms}, spec: {template: {spec: {containers: [{name: agent, image: evil}]}}}}", "privileged"},
		"Service that takes addresses":      {"{apiVersion: v1, kind: Service, metadata: {name: s, namespace: cms}, spec: {externalIPs: [10.0.0.1]}}", "externalIPs"},
		"claim template names a volume":     {"{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: s, namespace: cms}, spec: {volumeClaimTemplates: [{spec: {volumeName: of-another}}]}}", "PersistentVolume"},
		"ephemeral volume names a volume":   {pod("cms", "{containers: [{name: c}], volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {volumeName: of-another}}}}]}"), "PersistentVolume"},
	}
}

func TestAttacks(t *testing.T) {
	for name, attack := range attacks() {
		t.Run(name, func(t *testing.T) {
			d, err := namespaced().Decide(t.Context(), newCluster(t), object(t, attack.object))
			if err != nil {
				t.Fatal(err)
			}
			if d.Refused == "" || !strings.Contains(d.Refused, attack.words) {
				t.Errorf("got %+v, want a refusal with %q", d, attack.words)
			}
		})
	}
}

// What an honest application brings gets in.
func TestAdmitted(t *testing.T) {
	for name, text := range map[string]string{
		"Secret":                      "{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: cms}}",
		"custom resource":             "{apiVersion: cms.example.com/v1, kind: Page, metadata: {name: home, namespace: cms}}",
		"Prometheus is no pod":        "{apiVersion: monitoring.coreos.com/v1, kind: Prometheus, metadata: {name: p, namespace: cms}, spec: {hostPID: maybe, containers: [{name: c}]}}",
		"NetworkPolicy":               "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: np, namespace: cms}}",
		"a quota more":                "{apiVersion: v1, kind: ResourceQuota, metadata: {name: more, namespace: cms}}",
		"our own quota again":         "{apiVersion: v1, kind: ResourceQuota, metadata: {name: ours, namespace: cms}}",
		"Role within admin":           role("[{apiGroups: [''], resources: [configmaps], verbs: [get]}]"),
		"Role over custom resources":  role("[{apiGroups: [cms.example.com], resources: [pages, pages/status], verbs: ['*']}]"),
		"strong role made weak":       "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: strong, namespace: cms}, rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]}",
		"RoleBinding to view":         binding("b", grants("ClusterRole", "view")),
		"RoleBinding to an own role":  binding("b", grants("Role", "own")),
		"operator granted by admin":   "{apiVersion: operators.coreos.com/v1alpha1, kind: Subscription, metadata: {name: x, namespace: cms}}",
		"plain pod":                   pod("cms", "{containers: [{name: c}], volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]}"),
		"privileged pod where it may": pod("trusted", "{hostPID: true, containers: [{name: c, securityContext: {privileged: true}}]}"),
		"Service":                     "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: cms}, spec: {selector: {app: x}}}",
	} {
		d, err := namespaced().Decide(t.Context(), newCluster(t), object(t, text))
		if err != nil || d.Refused != "" || d.Leave || d.Object.GetName() == "" {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

func TestNamespaceStaysTheTargets(t *testing.T) {
	labelled := "{apiVersion: v1, kind: Namespace, metadata: {name: %, labels: {pod-security.kubernetes.io/enforce: privileged, access: db}, annotations: {scheduler.alpha.kubernetes.io/node-selector: x}}}"
	d, err := namespaced().Decide(t.Context(), newCluster(t), object(t, strings.Replace(labelled, "%", "cms", 1)))
	if err != nil || !d.Leave {
		t.Errorf("one that stands: %+v, %v", d, err)
	}
	d, err = namespaced().Decide(t.Context(), newCluster(t), object(t, strings.Replace(labelled, "%", "trusted", 1)))
	if err != nil || d.Leave || d.Refused != "" || d.Object.GetName() != "trusted" || len(d.Object.GetLabels()) != 0 || len(d.Object.GetAnnotations()) != 0 {
		t.Errorf("one that is made: %+v, %v", d, err)
	}
}

func TestAdmin(t *testing.T) {
	everywhere := admission.Policy{Scope: pairing.Scope{Admin: true}, OwnNamespace: "godwit-system"}
	two := admission.Policy{Scope: pairing.Scope{Admin: true, Namespaces: []string{"cms"}}, OwnNamespace: "godwit-system"}
	for _, tt := range []struct {
		name, object string
		policy       admission.Policy
		refused      bool
	}{
		{"ClusterRole", "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: r}}", everywhere, false},
		{"kube-system", "{apiVersion: v1, kind: ConfigMap, metadata: {name: r, namespace: kube-system}}", everywhere, false},
		{"cluster-scoped with a list", "{apiVersion: v1, kind: PersistentVolume, metadata: {name: r}}", two, false},
		{"outside the list", "{apiVersion: v1, kind: ConfigMap, metadata: {name: r, namespace: shop}}", two, true},
		{"Godwit's own namespace", "{apiVersion: v1, kind: Secret, metadata: {name: r, namespace: godwit-system}}", everywhere, true},
		{"the namespace object of Godwit", "{apiVersion: v1, kind: Namespace, metadata: {name: godwit-system}}", everywhere, true},
		{"Godwit's kinds", "{apiVersion: godwit.io/v1alpha1, kind: Standby, metadata: {name: r, namespace: cms}}", everywhere, true},
	} {
		d, err := tt.policy.Decide(t.Context(), newCluster(t), object(t, tt.object))
		if err != nil || (d.Refused != "") != tt.refused {
			t.Errorf("%s: %+v, %v", tt.name, d, err)
		}
	}
}

// The page lists what is tried here.
func TestAttacksAreListed(t *testing.T) {
	const page = "../../../docs/security.md"
	var table strings.Builder
	table.WriteString("| attempt | refused, because |\n| --- | --- |\n")
	for _, name := range slices.Sorted(maps.Keys(attacks())) {
		fmt.Fprintf(&table, "| %s | %s |\n", name, attacks()[name].words)
	}
	const begin, end = "<!-- attempts on the target, held by daemon/target/admission's tests -->\n", "<!-- end of attempts on the target -->"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	now, after, ends := strings.Cut(rest, end)
	if !found || !ends {
		t.Fatalf("%s lacks the marks %q and %q", page, begin, end)
	}
	if now == table.String() {
		return
	}
	if os.Getenv("GODWIT_UPDATE") == "" {
		t.Fatalf("%s does not list what is tried: run this test with GODWIT_UPDATE=1", page)
	}
	if err := os.WriteFile(page, []byte(before+begin+table.String()+end+after), 0o600); err != nil {
		t.Fatal(err)
	}
}
