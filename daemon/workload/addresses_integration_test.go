package workload

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// arriving are Services as a source would send them.
func arriving(t *testing.T, documents string) []Moved {
	t.Helper()
	objects, err := Decode([]byte(documents))
	if err != nil {
		t.Fatal(err)
	}
	out, err := Transform(objects, TransformOptions{MigrationName: "m", MigrationNamespace: "n", Time: options().Time})
	if err != nil {
		t.Fatal(err)
	}
	return out.Objects
}

// TestKeepAddresses keeps what can be kept on a real API server, gives up what
// collides or is out of range, and says so; again, it changes nothing.
func TestKeepAddresses(t *testing.T) {
	var writes atomic.Int32
	c := cluster(t, answering(func(r *http.Request) *http.Response {
		if r.Method != http.MethodGet && !strings.Contains(r.URL.RawQuery, "dryRun") {
			writes.Add(1)
		}
		return nil
	}))
	namespace(t, c, "addresses")
	// envtest gives Services addresses of 10.0.0.0/24, and those up to .16 to
	// nobody who does not ask for them.
	put(t, c, `
{apiVersion: v1, kind: Service, metadata: {name: theirs, namespace: addresses}, spec: {type: NodePort, clusterIP: 10.0.0.5, ports: [{port: 80, nodePort: 30051}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: standing, namespace: addresses}, spec: {type: NodePort, clusterIP: 10.0.0.6, ports: [{port: 80, nodePort: 30052}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: kept-by-wish, namespace: addresses}, spec: {clusterIP: 10.0.0.7, ports: [{port: 80}]}}
`)
	documents := `
{apiVersion: v1, kind: Service, metadata: {name: free, namespace: addresses}, spec: {type: NodePort, clusterIP: 10.0.0.8, clusterIPs: [10.0.0.8], ports: [{name: a, port: 80, nodePort: 30060}, {name: b, port: 81, nodePort: 30061}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: taken, namespace: addresses}, spec: {type: NodePort, clusterIP: 10.0.0.5, clusterIPs: [10.0.0.5], ports: [{name: a, port: 80, nodePort: 30051}, {name: b, port: 81, nodePort: 30071}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: foreign, namespace: addresses}, spec: {type: NodePort, clusterIP: 172.20.1.1, clusterIPs: [172.20.1.1], ports: [{port: 80, nodePort: 20000}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: standing, namespace: addresses}, spec: {type: NodePort, clusterIP: 10.0.0.10, clusterIPs: [10.0.0.10], ports: [{port: 80, nodePort: 30080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: headless, namespace: addresses}, spec: {clusterIP: None, clusterIPs: [None], ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: insists, namespace: addresses, annotations: {godwit.io/skip-modify-resource: "true"}}, spec: {clusterIP: 10.0.0.7, clusterIPs: [10.0.0.7], ports: [{port: 80}]}}
`
	run := func() ([]string, []Outcome) {
		moved := arriving(t, documents)
		lines, err := KeepAddresses(t.Context(), c, moved, "default", Instructions{})
		if err != nil {
			t.Fatal(err)
		}
		o := resolving(api.ConflictOverwrite)
		o.GiveUpAddresses = true
		outcomes, err := ApplyWave(t.Context(), c, Transformed{Objects: moved}.Plain(), o, nothing{})
		if err != nil {
			t.Fatal(err)
		}
		for _, outcome := range outcomes {
			lines = append(lines, outcome.GaveUp...)
		}
		return lines, outcomes
	}
	lines, outcomes := run()
	requireLines(t, lines,
		"Service addresses/taken: its cluster address 10.0.0.5 is given up, and it gets another: Service addresses/theirs has it on the target",
		"Service addresses/taken: its node port 30051 is given up, and it gets another: Service addresses/theirs has it on the target",
		"Service addresses/foreign: its cluster address 172.20.1.1 is given up, and it gets another: ",
		"Service addresses/foreign: its node port 20000 is given up, and it gets another: Invalid value: 20000: provided port is not in the valid range. The range of valid ports is 30000-32767")
	for _, o := range outcomes {
		if insists := o.Ref.Name == "insists"; (o.Err != nil) != insists {
			t.Errorf("%s: %v", o.Ref, o.Err)
		}
	}
	for name, want := range map[string]struct {
		ip    string
		ports []int64
	}{
		"free": {"10.0.0.8", []int64{30060, 30061}}, "taken": {"", []int64{0, 30071}}, "foreign": {"", []int64{0}},
		"standing": {"10.0.0.6", []int64{30052}}, "headless": {"None", []int64{}}, "theirs": {"10.0.0.5", []int64{30051}},
	} {
		requireAddresses(t, find(t, c, Ref{Version: "v1", Kind: "Service", Namespace: "addresses", Name: name}), want.ip, want.ports)
	}
	writes.Store(0)
	again, _ := run()
	if writes.Load() != 1 || len(again) != 0 { // The one that insists tries again.
		t.Errorf("again, there were %d writes and %d lines: %v", writes.Load(), len(again), again)
	}
}

// kept are the objects with the addresses that the cluster can give them.
func kept(t *testing.T, c Cluster, objects []unstructured.Unstructured) []unstructured.Unstructured {
	t.Helper()
	moved := make([]Moved, len(objects))
	for i := range objects {
		moved[i].Unstructured = objects[i]
	}
	if _, err := KeepAddresses(t.Context(), c, moved, "default", Instructions{}); err != nil {
		t.Fatal(err)
	}
	return Transformed{Objects: moved}.Plain()
}

func requireLines(t *testing.T, got []string, wanted ...string) {
	t.Helper()
	all := strings.Join(got, "\n")
	for _, want := range wanted {
		if !strings.Contains(all, want) {
			t.Errorf("lacks %q", want)
		}
	}
	if len(got) != len(wanted) {
		t.Errorf("%d lines, want %d:\n%s", len(got), len(wanted), all)
	}
}

// requireAddresses wants the address, or any where it is empty; a port of 0 is any
// that is not 20000 or 30051.
func requireAddresses(t *testing.T, service *unstructured.Unstructured, ip string, ports []int64) {
	t.Helper()
	spec := shape.Child(service.Object, "spec")
	got := shape.Text(spec, "clusterIP")
	if ip != "" && got != ip || ip == "" && !strings.HasPrefix(got, "10.0.0.") {
		t.Errorf("%s has the address %s, want %q", service.GetName(), got, ip)
	}
	for i, port := range portsOf(spec) {
		if want := ports[i]; want != 0 && port != want || want == 0 && (port < 30000 || port == 30051) {
			t.Errorf("%s has the node port %d, want %d", service.GetName(), port, want)
		}
	}
}

// TestStandingServiceKeepsItsAddress applies a Service that stands since its
// addresses were looked at: nothing is asked of it that cannot be changed.
func TestStandingServiceKeepsItsAddress(t *testing.T) {
	c := cluster(t, nil)
	namespace(t, c, "standing-addresses")
	wanted := arriving(t, `
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: standing-addresses}, spec: {clusterIP: 172.20.1.1, clusterIPs: [172.20.1.1], ports: [{port: 80}]}}
`)[0].Unstructured
	put(t, c, `
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: standing-addresses}, spec: {clusterIP: 10.0.0.11, ports: [{port: 80}]}}
`)
	o := ApplyOptions{FieldManager: "godwit", Owner: "pair", Conflicts: Conflicts{}, GiveUpAddresses: true}
	for range 2 {
		if _, err := Apply(t.Context(), c, wanted, o); err != nil {
			t.Fatal(err)
		}
	}
	resource, err := resourceOf(c, RefOf(&wanted))
	if err != nil {
		t.Fatal(err)
	}
	live, err := get(t.Context(), resource, "web")
	if err != nil {
		t.Fatal(err)
	}
	requireAddresses(t, live, "10.0.0.11", nil)
}
