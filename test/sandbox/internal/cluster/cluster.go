// Package cluster says what makes a Kubernetes cluster of nodes: certificates, configuration files,
// daemons, storage, DNS; and brings one up and down.
//
// Everything of a cluster lies in one folder. Node 0 carries the control plane, the CSI sidecars
// and DNS beside what every node has: containerd, kubelet, kube-proxy and the CSI drivers. The
// cluster's volumes lie on one xfs image that all of its nodes mount, so that a volume can move from
// node to node; its reflinks are what snapshots are made of.
//
// It never touches another cluster's folder, and keeps no state outside of its own.
package cluster

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/godwit-io/godwit/test/sandbox/internal/address"
	"github.com/godwit-io/godwit/test/sandbox/internal/node"
	"github.com/godwit-io/godwit/test/sandbox/internal/program"
)

// Cluster is one cluster.
type Cluster struct {
	Name  string
	Place address.Cluster
	Dir   string
	Nodes int
	// ControlPlane is a cluster without containers: its programs run on the host's loopback
	// interface, volumes are plain files, and a stand-in does kubelet's part. It needs no root.
	ControlPlane bool
	Filer        string           // folder of the storage that the sandbox's clusters share
	Programs     program.Programs // needed to start it
	CRDs         []string         // folders of the CustomResourceDefinitions it is to have
	Images       []string         // image archives that every node gets before its first pod
}

// NodeName is the name of node i in Kubernetes and its host name.
func (c Cluster) NodeName(i int) string {
	if i == 0 {
		return c.Name
	}
	return fmt.Sprintf("%s-%d", c.Name, i)
}

// Server is the URL of the API server.
func (c Cluster) Server() string {
	return fmt.Sprintf("https://%s:%d", c.ip(0), c.ports().API)
}

// Kubeconfig is the administrator's kubeconfig file.
func (c Cluster) Kubeconfig() string { return c.path("admin.kubeconfig") }

// Node is node i.
func (c Cluster) Node(i int) node.Node {
	place := c.Place.Node(i)
	return node.Node{
		Dir:    c.nodePath(i),
		Cgroup: place.Cgroup(),
		Link:   node.Link{Name: place.Link(), MAC: place.MAC(), Bridge: c.Place.Slot.Bridge()},
	}
}

// Running reports how many of the cluster's nodes run.
func (c Cluster) Running() int {
	n := 0
	for i := range c.Nodes {
		if c.nodeRuns(i) {
			n++
		}
	}
	return n
}

func (c Cluster) nodeRuns(i int) bool {
	if c.ControlPlane {
		return c.planeRuns()
	}
	return c.Node(i).Running()
}

func (c Cluster) ip(i int) string {
	if c.ControlPlane {
		return "127.0.0.1"
	}
	return c.Place.Node(i).IP().String()
}

func (c Cluster) ports() address.Ports {
	if c.ControlPlane {
		return c.Place.LoopbackPorts()
	}
	return c.Place.Ports()
}

func (c Cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.Dir}, parts...)...)
}

func (c Cluster) nodePath(i int, parts ...string) string {
	return c.path(append([]string{"nodes", fmt.Sprint(i)}, parts...)...)
}

func (c Cluster) pki(file string) string { return c.path("pki", file) }

func (c Cluster) log(i int, name string) string { return c.nodePath(i, "logs", name+".log") }

// api is ready when it can be asked for objects.
func (c Cluster) api() node.Probe { return node.Probe{URL: c.Server() + "/readyz"} }

func (c Cluster) makeDirs() error {
	dirs := []string{c.path("etcd"), c.path("csi")}
	if !c.ControlPlane {
		dirs = append(dirs, c.Filer)
	}
	for i := range c.Nodes {
		for _, d := range []string{"logs", "conf", "cni", "kubelet", "containerd", "cnistate", "podlogs"} {
			dirs = append(dirs, c.nodePath(i, d))
		}
	}
	for _, d := range dirs {
		// Containers with other users reach their volumes through the kubelet's folder.
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	return nil
}
