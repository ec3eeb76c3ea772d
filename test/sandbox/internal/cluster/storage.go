package cluster

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/godwit-io/godwit/test/sandbox/internal/node"
)

// driver is one CSI driver of the cluster.
type driver struct {
	Name     string // as in StorageClass.provisioner
	Flavor   string // as the driver's --flavor
	Short    string // its name in those of processes and sockets
	Volumes  string // its folder of volumes
	Attach   bool   // volumes are attached to a node before use
	Snapshot bool
	CBT      bool // changed blocks between snapshots
	// provisioner are further arguments of the driver's provisioner.
	provisioner []string
}

// Names of the drivers that every cluster has. The filer's volumes are there in all
// clusters of a sandbox that have nodes.
const (
	BlockDriver = "csi.test.godwit.io"
	FilesDriver = "files.test.godwit.io"
	FilerDriver = "filer.test.godwit.io"
)

func (c Cluster) storage() []driver {
	all := []driver{
		{Name: BlockDriver, Flavor: "block-cbt", Short: "block", Volumes: c.path("csi", "block"), Attach: true, Snapshot: true, CBT: true, provisioner: []string{"--default-fstype=ext4"}},
		{Name: FilesDriver, Flavor: "shared", Short: "files", Volumes: c.path("csi", "files")},
	}
	if !c.ControlPlane {
		all = append(all, driver{Name: FilerDriver, Flavor: "shared", Short: "filer", Volumes: c.Filer})
	}
	return all
}

// socket is where the driver listens.
func (c Cluster) socket(d driver) string {
	if c.ControlPlane {
		return c.path(d.Short + ".sock") // short: the kernel takes 107 characters
	}
	return filepath.Join("/var/lib/kubelet/plugins", d.Name, "csi.sock")
}

// drivers runs each driver on node i.
func (c Cluster) drivers(i int) []node.Daemon {
	args := []string{"--mode=node"}
	if i == 0 {
		args = []string{"--mode=all"}
	}
	if c.ControlPlane {
		args = append(args, "--plain", "--kubelet-dir="+c.KubeletDir())
	} else {
		args = append(args, "--registration", "--kubelet-dir=/var/lib/kubelet")
	}
	var all []node.Daemon
	for _, d := range c.storage() {
		one := c.daemon(i, "csidriver-"+d.Short, "csidriver", nil, append([]string{
			"--endpoint=unix://" + c.socket(d), "--node-id=" + c.NodeName(i), "--state-dir=" + d.Volumes,
			"--driver-name=" + d.Name, "--flavor=" + d.Flavor,
		}, args...)...)
		// Where mkfs.ext4 is, for users whose PATH is without it.
		one.Env = append(one.Env, "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
		all = append(all, one)
	}
	return all
}

// sidecars bring the drivers of node 0 and the API server together.
func (c Cluster) sidecars() []node.Daemon {
	kubeconfig := "--kubeconfig=" + c.path("addons.kubeconfig")
	qps := []string{"--kube-api-qps=100", "--kube-api-burst=200"}
	groups := "--feature-gates=CSIVolumeGroupSnapshot=true"
	all := []node.Daemon{
		c.daemon(0, "snapshot-controller", "snapshot-controller", []node.Probe{c.api()}, append(qps, kubeconfig, groups)...),
	}
	for _, d := range c.storage() {
		address := "--csi-address=" + c.socket(d)
		ready := []node.Probe{{Socket: c.socket(d)}, c.api()}
		add := func(program string, args ...string) {
			args = append(append([]string{kubeconfig, address}, qps...), args...)
			all = append(all, c.daemon(0, program+"-"+d.Short, program, ready, args...))
		}
		add("csi-provisioner", append(d.provisioner, "--extra-create-metadata")...)
		add("csi-resizer")
		if d.Attach {
			add("csi-attacher")
		}
		if d.Snapshot {
			add("csi-snapshotter", "--extra-create-metadata", groups)
		}
		if d.CBT {
			add("csi-snapshot-metadata", "--tls-cert="+c.pki("snapshot-metadata.crt"), "--tls-key="+c.pki("snapshot-metadata.key"),
				fmt.Sprintf("--port=%d", c.ports().SnapshotMetadata),
				fmt.Sprintf("--http-endpoint=127.0.0.1:%d", c.ports().SnapshotMetadataHealth))
		}
	}
	return all
}
