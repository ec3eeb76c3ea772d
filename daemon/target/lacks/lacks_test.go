package lacks

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/godwit-io/godwit/daemon/workload"
)

func coming(t *testing.T, documents string) Coming {
	t.Helper()
	objects, err := workload.Decode([]byte(documents))
	if err != nil {
		t.Fatal(err)
	}
	c := Coming{Starts: true}
	for _, o := range objects {
		c.Objects = append(c.Objects, workload.Moved{Unstructured: o})
	}
	return c
}

func found(t *testing.T, c client.Client, what Coming) Found {
	t.Helper()
	got, err := Finder{Live: c, Client: c}.Find(t.Context(), what)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// requireLacks wants exactly these lacks, "REASON words" or "! REASON words" for
// one that fails the run.
func requireLacks(t *testing.T, got []workload.Lack, wanted ...string) {
	t.Helper()
	rest := append([]workload.Lack(nil), got...)
	for _, want := range wanted {
		text, fails := strings.CutPrefix(want, "! ")
		reason, words, _ := strings.Cut(text, " ")
		at := -1
		for i, l := range rest {
			if l.Reason == reason && l.Fails == fails && strings.Contains(l.Message, words) {
				at = i
			}
		}
		if at < 0 {
			t.Errorf("lacks %q", want)
			continue
		}
		rest = append(rest[:at], rest[at+1:]...)
	}
	for _, l := range rest {
		t.Errorf("unexpected: fails %v, %s: %s", l.Fails, l.Reason, l.Message)
	}
}

func deployment(name, podSpec string) string {
	return "{apiVersion: apps/v1, kind: Deployment, metadata: {name: " + name + ", namespace: cms}, spec: {replicas: 2, template: {spec: " + podSpec + "}}}\n---\n"
}

// TestNodes names nodes that pods would wait for.
func TestNodes(t *testing.T) {
	node := func(name, zone string, change func(*corev1.Node)) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"zone": zone, "disk": "ssd"}}}
		n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi")}
		n.Status.Images = []corev1.ContainerImage{{Names: []string{"docker.io/library/c:latest"}}}
		if change != nil {
			change(n)
		}
		return n
	}
	c := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).WithObjects(
		node("a", "a", nil),
		node("b", "b", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}
		}),
	).Build()
	const pod = "containers: [{name: c, image: c}]"
	zone := func(z string) string {
		return "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [" + z + "]}]}]}}}"
	}
	got := found(t, c, coming(t,
		deployment("fits", "{nodeSelector: {zone: a}, "+pod+"}")+
			deployment("waits", "{nodeSelector: {zone: a, disk: hdd}, "+pod+"}")+
			deployment("zone-a", "{"+zone("a")+", "+pod+"}")+
			deployment("zone-c", "{"+zone("c")+", "+pod+"}")+
			deployment("tainted", "{"+zone("b")+", "+pod+"}")+
			deployment("tolerates", "{"+zone("b")+", tolerations: [{key: gpu, operator: Exists}], "+pod+"}")+
			deployment("spread", "{topologySpreadConstraints: [{maxSkew: 1, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}], "+pod+"}")+
			deployment("hopes", "{topologySpreadConstraints: [{maxSkew: 1, topologyKey: rack, whenUnsatisfiable: ScheduleAnyway}], "+pod+"}")+
			deployment("large", "{containers: [{name: c, image: c, resources: {requests: {cpu: 5}}}]}")+
			"{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: held, namespace: cms}, spec: {template: {spec: {nodeSelector: {godwit.io/held: 'true'}, "+pod+"}}}}"))
	requireLacks(t, got.Lacks,
		"NoNode Deployment.apps cms/waits: no node here has the labels of its nodeSelector (disk=hdd,zone=a)",
		"NoNode Deployment.apps cms/zone-c: no node here has the labels of its nodeAffinity (zone In c)",
		"NoNode Deployment.apps cms/tainted: every node here that fits has a taint",
		"NoNode Deployment.apps cms/spread: no node here that fits has the label rack",
		"NoNode Deployment.apps cms/large: no node here that fits is large enough for one of its pods (cpu 5)")
}

// TestUIDs names users that two namespaces would share.
func TestUIDs(t *testing.T) {
	namespace := func(name, uids string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{annotationUIDRange: uids}}}
	}
	c := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).WithObjects(
		namespace("same", "1000650000/10000"), namespace("part", "1000655000-1000665000"), namespace("apart", "1000660000/10000"),
		namespace("cms", "1000650000/10000"), namespace("odd", "many"), namespace("none", "5/0"),
	).Build()
	got := found(t, c, coming(t, `
{apiVersion: v1, kind: Namespace, metadata: {name: cms, annotations: {openshift.io/sa.scc.uid-range: 1000650000/10000}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: wrong, annotations: {openshift.io/sa.scc.uid-range: all}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: plain}}
`))
	requireLacks(t, got.Lacks,
		"SharedUIDs Namespace cms: its openshift.io/sa.scc.uid-range (1000650000/10000) overlaps that of namespace same here",
		"SharedUIDs overlaps that of namespace part here (1000655000-1000665000)",
		`SharedUIDs Namespace wrong: its openshift.io/sa.scc.uid-range is "all", which is no range`)
}

// TestImages tells what is known of images, and how.
func TestImages(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	node.Status.Images = []corev1.ContainerImage{{Names: []string{
		"docker.io/library/nginx:1.27", "registry.example.com:5000/shop/web@sha256:0000000000000000000000000000000000000000000000000000000000000000",
	}}}
	c := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).WithObjects(node,
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "there"}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "standing"}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "nowhere"}}},
	).Build()
	got := found(t, c, coming(t,
		deployment("known", "{containers: [{name: c, image: 'nginx:1.27'}], imagePullSecrets: [{name: there}, {name: comes}, {name: lost}]}")+
			deployment("same", "{containers: [{name: c, image: 'registry.example.com:5000/shop/api:2'}], serviceAccountName: brought}")+
			deployment("unknown", "{containers: [{name: c, image: 'quay.io/a/b'}], serviceAccountName: standing}")+
			deployment("never", "{containers: [{name: c, image: busybox, imagePullPolicy: Never}]}")+
			"{apiVersion: v1, kind: Secret, metadata: {name: comes, namespace: cms}}\n---\n"+
			"{apiVersion: v1, kind: ServiceAccount, metadata: {name: brought, namespace: cms}, imagePullSecrets: [{name: comes}, {name: gone}]}"))
	requireLacks(t, got.Lacks,
		"ImageUnknown Deployment.apps cms/unknown: nothing here says that its image quay.io/a/b can be pulled: no node tells of it, or of another one of registry quay.io",
		"ImageNotOnNodes Deployment.apps cms/never: container c never pulls its image busybox",
		"PullSecretNotFound Deployment.apps cms/known: its pods log in to a registry by Secret cms/lost",
		"PullSecretNotFound Deployment.apps cms/same: its pods log in to a registry by Secret cms/gone",
		"PullSecretNotFound Deployment.apps cms/unknown: its pods log in to a registry by Secret cms/nowhere")
	known := make(map[string]workload.ImageKnown)
	for _, i := range got.Images {
		known[i.Name] = i.Known
		if len(i.Users) != 1 {
			t.Errorf("%s is used by %v", i.Name, i.Users)
		}
	}
	for image, want := range map[string]workload.ImageKnown{
		"nginx:1.27": workload.ImageOnNode, "registry.example.com:5000/shop/api:2": workload.ImageRegistryInUse,
		"quay.io/a/b": workload.ImageUnknown, "busybox": workload.ImageRegistryInUse,
	} {
		if known[image] != want {
			t.Errorf("%s is known as %q, want %q", image, known[image], want)
		}
	}
}

func TestNormal(t *testing.T) {
	for image, want := range map[string]string{
		"nginx": "docker.io/library/nginx:latest", "a/b:1": "docker.io/a/b:1", "localhost/a": "localhost/a:latest",
		"r:5000/a": "r:5000/a:latest", "quay.io/a/b@sha256:1": "quay.io/a/b@sha256:1",
	} {
		if got := normal(image); got != want {
			t.Errorf("%s is %s, want %s", image, got, want)
		}
	}
}
