package lacks

import (
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/godwit-io/godwit/daemon/workload"
)

// realCluster is an API server with its admission, and no nodes.
func realCluster(t *testing.T) client.Client {
	t.Helper()
	programs := os.Getenv("GODWIT_KUBE_BIN")
	if programs == "" {
		t.Skip("needs GODWIT_KUBE_BIN: make test sets it")
	}
	environment := &envtest.Environment{BinaryAssetsDirectory: programs, ControlPlaneStartTimeout: 2 * time.Minute}
	config, err := environment.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := environment.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	c, err := client.New(config, client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func create(t *testing.T, c client.Client, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// quota is one whose use the controller manager has counted already.
func quota(t *testing.T, c client.Client, namespace string, hard, used corev1.ResourceList) {
	t.Helper()
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "bound"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}
	create(t, c, q)
	q.Status = corev1.ResourceQuotaStatus{Hard: hard, Used: used}
	if err := c.Status().Update(t.Context(), q); err != nil {
		t.Fatal(err)
	}
}

func list(pairs ...string) corev1.ResourceList {
	out := make(corev1.ResourceList)
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

// withoutPlaces leaves out what the lack of nodes makes of every pod.
func withoutPlaces(f Found) []workload.Lack {
	var out []workload.Lack
	for _, l := range f.Lacks {
		if l.Reason != NoNode && l.Reason != ImageUnknown {
			out = append(out, l)
		}
	}
	return out
}

// TestOnARealServer asks the admission of a real API server, and finds that
// nothing was written.
func TestOnARealServer(t *testing.T) {
	c := realCluster(t)
	create(t, c,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "strict", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cms"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "limited"}},
		&corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: "limited", Name: "l"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypeContainer, Max: list("memory", "1Gi"), Default: list("memory", "512Mi"), DefaultRequest: list("memory", "256Mi"),
		}}}})
	quota(t, c, "cms", list("count/configmaps", "2", "requests.cpu", "4", "pods", "10"), list("count/configmaps", "1", "requests.cpu", "1", "pods", "1"))
	quota(t, c, "limited", list("requests.memory", "1Gi"), list("requests.memory", "0"))
	in := func(namespace, name, replicas, pod string) string {
		return "{apiVersion: apps/v1, kind: Deployment, metadata: {name: " + name + ", namespace: " + namespace + "}, spec: {replicas: " + replicas +
			", selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: " + pod + "}}}\n---\n"
	}
	const plain = "{containers: [{name: c, image: c}]}"
	what := coming(t,
		in("strict", "plain", "1", plain)+
			in("strict", "resting", "0", plain)+
			in("strict", "good", "1", "{securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, containers: [{name: c, image: c, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}")+
			"{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db, namespace: strict}, spec: {replicas: 1, serviceName: db, selector: {matchLabels: {app: db}}, volumeClaimTemplates: [{metadata: {name: data}, spec: {}}], template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: c, volumeMounts: [{name: data, mountPath: /data}]}]}}}}\n---\n"+
			in("elsewhere", "plain", "1", plain)+
			in("limited", "large", "1", "{containers: [{name: c, image: c, resources: {limits: {memory: 2Gi}}}]}")+
			in("limited", "defaulted", "5", plain)+
			in("cms", "many", "2", "{containers: [{name: c, image: c, resources: {requests: {cpu: 1500m}}}]}")+
			in("cms", "odd", "1", "{priorityClassName: urgent, runtimeClassName: gvisor, containers: [{name: c, image: c, resources: {requests: {cpu: 1m}}}]}")+
			in("cms", "own", "1", "{priorityClassName: brought, containers: [{name: c, image: c, resources: {requests: {cpu: 1m}}}]}")+
			"{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: brought}, value: 1}\n---\n"+
			"{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: cms}}\n---\n"+
			"{apiVersion: v1, kind: ConfigMap, metadata: {name: b, namespace: cms}}\n---\n"+
			"{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: web, namespace: cms}, spec: {ingressClassName: nginx}}")
	starting := []string{
		`! PodsRefused Deployment.apps strict/plain: the target refuses its pods: violates PodSecurity "restricted:latest"`,
		`! PodsRefused StatefulSet.apps strict/db: the target refuses its pods: violates PodSecurity "restricted:latest"`,
		`PodsRefused Deployment.apps strict/resting: the target refuses its pods: violates PodSecurity "restricted:latest"`,
		"! PodsRefused Deployment.apps limited/large: the target refuses its pods: maximum memory usage per Container is 1Gi",
		"! QuotaExceeded ResourceQuota limited/bound: requests.memory is limited to 1Gi, of which 0 is used, and",
		"! QuotaExceeded ResourceQuota cms/bound: requests.cpu is limited to 4, of which 1 is used, and 3002m more comes",
		"! QuotaExceeded ResourceQuota cms/bound: count/configmaps is limited to 2, of which 1 is used, and 2 more comes",
		"! ClassNotFound Deployment.apps cms/odd: PriorityClass urgent is not on the target",
		"! ClassNotFound Deployment.apps cms/odd: RuntimeClass gvisor is not on the target",
		"ClassNotFound Ingress.networking.k8s.io cms/web: IngressClass nginx is not on the target, and no ingress controller will serve it",
	}
	requireLacks(t, withoutPlaces(found(t, c, what)), starting...)
	// Held, nothing but the number of objects can fail.
	what.Starts = false
	var fails int
	for _, l := range found(t, c, what).Lacks {
		if l.Fails {
			fails++
		}
	}
	if fails != 1 {
		t.Errorf("held, %d lacks fail the run, want the number of ConfigMaps alone", fails)
	}
	var pods corev1.PodList
	if err := c.List(t.Context(), &pods); err != nil || len(pods.Items) > 0 {
		t.Errorf("%d pods were made: %v", len(pods.Items), err)
	}
}

// TestQuotaOfWhatRuns counts an application that is adopted once.
func TestQuotaOfWhatRuns(t *testing.T) {
	c := realCluster(t)
	create(t, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cms"}})
	document := "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: cms}, spec: {replicas: 3, selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: c, resources: {requests: {cpu: 1}}}]}}}}"
	what := coming(t, document)
	create(t, c, what.Objects[0].DeepCopy())
	quota(t, c, "cms", list("requests.cpu", "3"), list("requests.cpu", "3"))
	what.Actions = map[workload.Ref]workload.Action{workload.RefOf(&what.Objects[0].Unstructured): workload.Updated}
	requireLacks(t, withoutPlaces(found(t, c, what)))
	scaled := what.Objects[0].DeepCopy()
	scaled.Object["spec"].(map[string]any)["replicas"] = int64(4)
	what.Objects[0].Unstructured = *scaled
	requireLacks(t, withoutPlaces(found(t, c, what)), "! QuotaExceeded requests.cpu is limited to 3, of which 3 is used, and 1 more comes")
}

// TestNamespacesThatCome foresees what PodSecurity says in namespaces that are not
// there yet, and says it as the server does once they are.
func TestNamespacesThatCome(t *testing.T) {
	c := realCluster(t)
	namespace := func(name, labels string) string {
		return "{apiVersion: v1, kind: Namespace, metadata: {name: " + name + ", labels: {" + labels + "}}}\n---\n"
	}
	in := func(namespace, pod string) string {
		return "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: " + namespace +
			"}, spec: {replicas: 1, selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: " + pod + "}}}\n---\n"
	}
	const enforce = "pod-security.kubernetes.io/enforce: "
	what := coming(t, namespace("strict", enforce+"restricted")+in("strict", "{containers: [{name: c, image: c}]}")+
		namespace("based", enforce+"baseline, pod-security.kubernetes.io/enforce-version: v1.30")+in("based", "{hostNetwork: true, containers: [{name: c, image: c}]}")+
		namespace("free", enforce+"privileged")+in("free", "{hostNetwork: true, containers: [{name: c, image: c}]}")+
		namespace("silent", "team: web")+in("silent", "{containers: [{name: c, image: c}]}")+
		namespace("wrong", enforce+"strictly")+in("wrong", "{containers: [{name: c, image: c}]}"))
	wanted := []string{
		`! PodsRefused Deployment.apps strict/web: the target refuses its pods: violates PodSecurity "restricted:latest", which its namespace brings along: allowPrivilegeEscalation != false`,
		`! PodsRefused Deployment.apps based/web: the target refuses its pods: violates PodSecurity "baseline:v1.30", which its namespace brings along: host namespaces (hostNetwork=true)`,
		`! PodsRefused Deployment.apps wrong/web: the target refuses its pods: violates PodSecurity "restricted:latest"`,
	}
	before := withoutPlaces(found(t, c, what))
	requireLacks(t, before, wanted...)

	for i := range what.Objects {
		if o := &what.Objects[i].Unstructured; o.GetKind() == "Namespace" && o.GetName() != "wrong" {
			create(t, c, o.DeepCopy())
		}
	}
	says := make(map[workload.Ref]string)
	for _, l := range withoutPlaces(found(t, c, what)) {
		says[l.Ref] = l.Message
	}
	for _, l := range before {
		if l.Ref.Namespace == "wrong" {
			continue // The server takes no such namespace.
		}
		if foreseen := strings.Replace(l.Message, ", which its namespace brings along", "", 1); foreseen != says[l.Ref] {
			t.Errorf("foreseen was %q, and the server says %q", foreseen, says[l.Ref])
		}
	}

	// A namespace that stays as it is brings nothing along.
	kept := coming(t, namespace("lenient", enforce+"restricted")+in("lenient", "{containers: [{name: c, image: c}]}"))
	kept.Actions = map[workload.Ref]workload.Action{{Version: "v1", Kind: "Namespace", Name: "lenient"}: workload.Kept}
	create(t, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "lenient"}})
	requireLacks(t, withoutPlaces(found(t, c, kept)))
}
