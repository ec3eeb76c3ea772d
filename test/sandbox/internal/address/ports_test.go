package address

import "testing"

func TestLoopbackPortsAreDistinct(t *testing.T) {
	used := map[int]bool{}
	take := func(ports ...int) {
		t.Helper()
		for _, p := range ports {
			if used[p] || p >= 32768 {
				t.Errorf("port %d is used twice or may be given to an outgoing connection", p)
			}
			used[p] = true
		}
	}
	for s := Slot(0); s < MaxSlots; s++ {
		take(s.LoopbackStorePort())
		for c := range MaxClusters {
			place := Cluster{Slot: s, Index: c}
			p := place.LoopbackPorts()
			take(p.API, p.Etcd, p.EtcdPeer, p.SnapshotMetadata, p.SnapshotMetadataHealth)
			take(place.SparePorts()...)
		}
	}
}
