package cluster

import (
	"strings"
	"testing"

	"github.com/godwit-io/godwit/test/sandbox/internal/address"
	"github.com/godwit-io/godwit/test/sandbox/internal/program"
	"sigs.k8s.io/yaml"
)

func testCluster(t *testing.T) Cluster {
	t.Helper()
	c := Cluster{Name: "src", Place: address.Cluster{Index: 1}, Dir: t.TempDir(), Nodes: 2, Programs: program.Programs{}}
	for _, name := range []string{
		"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns", "containerd", "csidriver",
		"csi-provisioner", "csi-attacher", "csi-resizer", "csi-snapshotter", "csi-snapshot-metadata", "snapshot-controller",
	} {
		c.Programs[name] = "/programs/" + name
	}
	return c
}

func TestEveryDaemonHasAProgramAndANameOfItsOwn(t *testing.T) {
	c := testCluster(t)
	for i := range c.Nodes {
		names := map[string]bool{}
		for _, d := range c.spec(i, "/dev/loop9").Daemons {
			if names[d.Name] {
				t.Errorf("node %d has two daemons %s", i, d.Name)
			}
			names[d.Name] = true
			if d.Argv[0] == "" || d.Log == "" {
				t.Errorf("node %d: daemon %s has program %q and log %q", i, d.Name, d.Argv[0], d.Log)
			}
		}
		if names["etcd"] != (i == 0) || !names["kubelet"] || !names["csidriver-block"] {
			t.Errorf("node %d runs %v", i, names)
		}
	}
}

func TestOnlyNodeZeroControlsVolumes(t *testing.T) {
	c := testCluster(t)
	for i, want := range []string{"--mode=all", "--mode=node"} {
		for _, d := range c.drivers(i) {
			if !strings.Contains(strings.Join(d.Argv, " "), want) {
				t.Errorf("driver of node %d: %v lacks %s", i, d.Argv, want)
			}
		}
	}
}

func TestConfigsAreYAML(t *testing.T) {
	c := testCluster(t)
	for name, text := range map[string]string{"kubelet": c.kubeletConfig(0), "kube-proxy": c.kubeProxyConfig(1), "cni": cniConfig(c.Place.Node(0))} {
		var v map[string]any
		if err := yaml.UnmarshalStrict([]byte(text), &v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRoutesReachEveryPodNetworkButTheOwn(t *testing.T) {
	c := testCluster(t)
	lines := strings.Join(c.network(0), "\n")
	if strings.Contains(lines, c.Place.Node(0).Pods().String()) {
		t.Error("a node has a route to its own pods")
	}
	for _, other := range []address.Node{c.Place.Node(1), {Index: 0}} {
		if want := "route add " + other.Pods().String() + " via " + other.IP().String(); !strings.Contains(lines, want) {
			t.Errorf("no line %q", want)
		}
	}
}

func TestContains(t *testing.T) {
	have := map[string]string{"a:1": "sha256:1", "b:1": "sha256:2"}
	for _, c := range []struct {
		wanted map[string]string
		want   bool
	}{
		{map[string]string{"a:1": "sha256:1"}, true},
		{map[string]string{"a:1": "sha256:9"}, false},
		{map[string]string{"a:1": "sha256:1", "c:1": "sha256:3"}, false},
		{map[string]string{"a:1": ""}, false},
		{nil, false},
	} {
		if got := contains(have, c.wanted); got != c.want {
			t.Errorf("contains(%v) = %v", c.wanted, got)
		}
	}
}

func TestParseObjectsKnowsItsKinds(t *testing.T) {
	objects, err := parseObjects("apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: x}\n---\napiVersion: storage.k8s.io/v1\nkind: CSIDriver\nmetadata: {name: other}\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) != 2 || objects[0].path != "/apis/storage.k8s.io/v1/storageclasses/x" || objects[1].path != "/apis/storage.k8s.io/v1/csidrivers/other" {
		t.Errorf("objects %+v", objects)
	}
	if _, err := parseObjects("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n"); err == nil {
		t.Error("a kind that is not applied was taken")
	}
}
