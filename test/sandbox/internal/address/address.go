// Package address says which addresses a sandbox uses. It is arithmetic only: it opens no socket
// and asks the machine nothing.
//
// A slot is one sandbox's place on a machine: slot S owns the network 10.(200+S).0.0/16, the bridge
// gwsbS, and every name that starts with gwsbS-. Within it, cluster C (0 to 15) and node N (0 to 9)
// own fixed parts, so that a node keeps its addresses for life and no table has to be kept.
package address

import (
	"fmt"
	"net/netip"
)

// Limits of one sandbox, and of sandboxes on one machine.
const (
	MaxSlots    = 16
	MaxClusters = 16
	MaxNodes    = 10
)

// Slot is one sandbox's place on a machine, 0 to MaxSlots-1.
type Slot int

// Network is all that the slot owns.
func (s Slot) Network() netip.Prefix {
	return netip.PrefixFrom(s.addr(0, 0), 16)
}

// Bridge is the name of the slot's network bridge on the host.
func (s Slot) Bridge() string { return fmt.Sprintf("gwsb%d", int(s)) }

// Host is the host's own address on the bridge; the object store listens on it.
func (s Slot) Host() netip.Addr { return s.addr(0, 1) }

// HostPrefix is Host with the length of the network that all nodes share.
func (s Slot) HostPrefix() netip.Prefix { return netip.PrefixFrom(s.Host(), 24) }

func (s Slot) addr(third, fourth int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(200 + int(s)), byte(third), byte(fourth)})
}

// Cluster is the place of one cluster within a slot.
type Cluster struct {
	Slot  Slot
	Index int // 0 to MaxClusters-1
}

// Services is the network of the cluster's Service addresses.
func (c Cluster) Services() netip.Prefix {
	return netip.PrefixFrom(c.Slot.addr(192+4*c.Index, 0), 22)
}

// KubernetesService is the address of the Service kubernetes.default.
func (c Cluster) KubernetesService() netip.Addr { return c.Services().Addr().Next() }

// Node is the place of the cluster's n-th node; node 0 carries the control plane.
func (c Cluster) Node(n int) Node { return Node{Cluster: c, Index: n} }

// Node is the place of one node within a cluster.
type Node struct {
	Cluster Cluster
	Index   int // 0 to MaxNodes-1
}

func (n Node) ordinal() int { return n.Cluster.Index*MaxNodes + n.Index }

// IP is the node's address on the bridge.
func (n Node) IP() netip.Addr { return n.Cluster.Slot.addr(0, 10+n.ordinal()) }

// Pods is the network of the node's pods.
func (n Node) Pods() netip.Prefix {
	return netip.PrefixFrom(n.Cluster.Slot.addr(16+n.ordinal(), 0), 24)
}

// Link is the name of the host's end of the node's network link (at most 15 characters).
func (n Node) Link() string {
	return fmt.Sprintf("%s-%d-%d", n.Cluster.Slot.Bridge(), n.Cluster.Index, n.Index)
}

// Cgroup is the name of the node's control group, under the root of every hierarchy.
func (n Node) Cgroup() string { return n.Link() }

// MAC is fixed: with a new one after each restart, neighbours would send to the old one for half a
// minute.
func (n Node) MAC() string {
	b := n.IP().As4()
	return fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

// Ports are where a cluster's programs listen.
type Ports struct {
	API, Etcd, EtcdPeer, SnapshotMetadata, SnapshotMetadataHealth int
}

// Ports are the usual ones, for clusters with a network of their own.
func (c Cluster) Ports() Ports {
	return Ports{API: 6443, Etcd: 2379, EtcdPeer: 2380, SnapshotMetadata: 50051, SnapshotMetadataHealth: 8088}
}

// LoopbackPorts are distinct for every cluster, for those that share the host's network.
func (c Cluster) LoopbackPorts() Ports {
	base := c.Slot.firstPort() + 8*c.Index
	return Ports{API: base, Etcd: base + 1, EtcdPeer: base + 2, SnapshotMetadata: base + 3, SnapshotMetadataHealth: base + 4}
}

// SparePorts are left to programs that run beside a cluster which shares the host's network.
func (c Cluster) SparePorts() []int {
	last := c.LoopbackPorts().SnapshotMetadataHealth
	return []int{last + 1, last + 2, last + 3}
}

// LoopbackStorePort is the object store's port where the sandbox has no network of its own.
func (s Slot) LoopbackStorePort() int { return s.firstPort() + 8*MaxClusters }

// firstPort is below the range that the kernel gives to outgoing connections.
func (s Slot) firstPort() int { return 26000 + 160*int(s) }
