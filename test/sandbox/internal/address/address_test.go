package address

import (
	"net/netip"
	"testing"
)

func TestNothingOverlaps(t *testing.T) {
	type owned struct {
		name string
		net  netip.Prefix
	}
	var all []owned
	names := map[string]bool{}
	for s := Slot(0); s < 2; s++ {
		hosts := netip.PrefixFrom(s.Host(), 32)
		all = append(all, owned{"host", hosts})
		for c := range MaxClusters {
			cl := Cluster{Slot: s, Index: c}
			all = append(all, owned{"services", cl.Services()})
			for n := range MaxNodes {
				nd := cl.Node(n)
				all = append(all, owned{"pods", nd.Pods()}, owned{"node", netip.PrefixFrom(nd.IP(), 32)})
				if len(nd.Link()) > 15 {
					t.Errorf("link name %q is longer than the kernel takes", nd.Link())
				}
				if names[nd.Link()] || names[nd.MAC()] {
					t.Errorf("%s or %s is used twice", nd.Link(), nd.MAC())
				}
				names[nd.Link()], names[nd.MAC()] = true, true
			}
		}
		for _, o := range all[len(all)-1:] {
			if !s.Network().Overlaps(o.net) {
				t.Errorf("%s %s is outside slot %d", o.name, o.net, s)
			}
		}
	}
	for i, a := range all {
		if a.net != a.net.Masked() {
			t.Errorf("%s %s has host bits", a.name, a.net)
		}
		for _, b := range all[:i] {
			if a.net.Overlaps(b.net) {
				t.Errorf("%s %s overlaps %s %s", a.name, a.net, b.name, b.net)
			}
		}
	}
}

func TestFirstClusterIsWhereTheNotesSay(t *testing.T) {
	c := Cluster{}
	if got := c.Node(0).IP().String(); got != "10.200.0.10" {
		t.Errorf("node 0 is at %s", got)
	}
	if got := c.KubernetesService().String(); got != "10.200.192.1" {
		t.Errorf("kubernetes.default is at %s", got)
	}
	if got := c.Node(0).MAC(); got != "02:00:0a:c8:00:0a" {
		t.Errorf("MAC of node 0 is %s", got)
	}
}
