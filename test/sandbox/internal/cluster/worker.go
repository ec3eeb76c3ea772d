package cluster

import (
	"fmt"
	"os"

	"github.com/godwit-io/godwit/test/sandbox/internal/address"
	"github.com/godwit-io/godwit/test/sandbox/internal/node"
)

const (
	containerdSocket = "/run/containerd/containerd.sock"
	pauseImage       = "sandbox.local/pause:1"
	cniPrograms      = "/usr/lib/cni"
)

// worker is what every node runs.
func (c Cluster) worker(i int) []node.Daemon {
	containerdUp := node.Probe{Socket: containerdSocket}
	containerd := node.Daemon{
		Name: "containerd", Env: daemonEnv(), Log: c.log(i, "containerd"),
		Argv: []string{c.Programs["containerd"], "-c", c.nodePath(i, "conf", "containerd.toml")},
	}
	return []node.Daemon{
		containerd,
		c.daemon(i, "kubelet", "kubelet", []node.Probe{containerdUp, c.api()},
			"--config="+c.nodePath(i, "conf", "kubelet.yaml"),
			"--kubeconfig="+c.path(fmt.Sprintf("kubelet-%d.kubeconfig", i)),
			"--hostname-override="+c.NodeName(i), "--node-ip="+c.ip(i), "--root-dir=/var/lib/kubelet"),
		c.daemon(i, "kube-proxy", "kube-proxy", []node.Probe{c.api()},
			"--config="+c.nodePath(i, "conf", "kube-proxy.yaml")),
	}
}

// writeConfigs writes the configuration files of node i.
func (c Cluster) writeConfigs(i int) error {
	files := map[string]string{
		"conf/containerd.toml":    containerdConfig(c.nodePath(i, "cni")),
		"conf/kubelet.yaml":       c.kubeletConfig(i),
		"conf/kube-proxy.yaml":    c.kubeProxyConfig(i),
		"conf/resolv.conf":        "nameserver " + c.ip(0) + "\n",
		"cni/10-sandbox.conflist": cniConfig(c.Place.Node(i)),
	}
	if i == 0 {
		files["conf/Corefile"] = c.corefile()
	}
	for name, text := range files {
		if err := os.WriteFile(c.nodePath(i, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// containerdConfig is in version 2, which containerd 1.6 and 2 both read.
func containerdConfig(cniDir string) string {
	return fmt.Sprintf(`version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  # Without the right to lower oom_score_adj, runc ends with "can't get final child's PID from pipe".
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
`, containerdSocket, pauseImage, cniPrograms, cniDir)
}

func (c Cluster) kubeletConfig(i int) string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://%[1]s
address: %[2]s
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %[3]s}}
authorization: {mode: Webhook}
tlsCertFile: %[4]s
tlsPrivateKeyFile: %[5]s
cgroupDriver: cgroupfs
cgroupRoot: /%[6]s
failCgroupV1: false
failSwapOn: false
protectKernelDefaults: false
enforceNodeAllocatable: [pods]
evictionHard: {memory.available: 100Mi, nodefs.available: 1%%, nodefs.inodesFree: 1%%, imagefs.available: 1%%, imagefs.inodesFree: 1%%}
# Images come from sandbox load alone: one that is collected could not be pulled again.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
clusterDNS: [%[7]s]
clusterDomain: cluster.local
resolvConf: %[8]s
serializeImagePulls: false
registerNode: true
# A volume that attaches is only mounted once the node has said that it uses it, which
# would keep each pod waiting for up to ten seconds.
nodeStatusUpdateFrequency: 1s
nodeStatusReportFrequency: 5m
logging: {verbosity: 1}
`, containerdSocket, c.ip(i), c.pki("ca.crt"), c.pki(fmt.Sprintf("kubelet-%d.crt", i)), c.pki(fmt.Sprintf("kubelet-%d.key", i)),
		c.Place.Node(i).Cgroup(), c.ip(0), c.nodePath(i, "conf", "resolv.conf"))
}

func (c Cluster) kubeProxyConfig(i int) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: %s}
hostnameOverride: %s
bindAddress: %s
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
# Connection tracking limits belong to the host.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, c.path("kube-proxy.kubeconfig"), c.NodeName(i), c.ip(i))
}

func cniConfig(n address.Node) string {
	return fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "sandbox", "plugins": [
 {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
`, n.Pods())
}

// spec is all of node i; volumes is the device that the cluster's volumes lie on.
func (c Cluster) spec(i int, volumes string) node.Spec {
	s := node.Spec{
		Hostname: c.NodeName(i),
		Mounts: []node.Mount{
			{Source: "tmpfs", Target: "/run", Type: "tmpfs", Data: "mode=755"},
			{Source: c.nodePath(i, "kubelet"), Target: "/var/lib/kubelet", Type: "rbind"},
			{Source: c.nodePath(i, "containerd"), Target: "/var/lib/containerd", Type: "bind"},
			{Source: c.nodePath(i, "cnistate"), Target: "/var/lib/cni", Type: "bind"},
			{Source: c.nodePath(i, "podlogs"), Target: "/var/log/pods", Type: "bind"},
			{Source: "tmpfs", Target: "/var/log/containers", Type: "tmpfs"},
			{Source: volumes, Target: c.path("csi"), Type: "xfs"},
		},
		Network: c.network(i),
		Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.route_localnet": "1"},
		Shown: map[string]string{
			"kernel.panic": "10", "kernel.panic_on_oops": "1", "vm.overcommit_memory": "1", "vm.panic_on_oom": "0",
			"kernel.keys.root_maxkeys": "1000000", "kernel.keys.root_maxbytes": "25000000",
		},
	}
	if i == 0 {
		s.Daemons = append(s.Daemons, c.controlPlane()...)
	}
	s.Daemons = append(s.Daemons, c.worker(i)...)
	s.Daemons = append(s.Daemons, c.drivers(i)...)
	if i == 0 {
		s.Daemons = append(s.Daemons, c.sidecars()...)
	}
	return s
}

// network sets addresses, and routes to the pods and Services of every cluster that can ever be in
// this sandbox: their places are known beforehand, so nothing changes when one comes or goes.
func (c Cluster) network(i int) []string {
	self := c.Place.Node(i)
	lines := []string{
		"link set lo up",
		"link set eth0 up",
		fmt.Sprintf("addr add %s/24 dev eth0", self.IP()),
		fmt.Sprintf("route add default via %s", c.Place.Slot.Host()),
	}
	for k := range address.MaxClusters {
		other := address.Cluster{Slot: c.Place.Slot, Index: k}
		if k != c.Place.Index {
			lines = append(lines, fmt.Sprintf("route add %s via %s", other.Services(), other.Node(0).IP()))
		}
		for n := range address.MaxNodes {
			if peer := other.Node(n); peer != self {
				lines = append(lines, fmt.Sprintf("route add %s via %s", peer.Pods(), peer.IP()))
			}
		}
	}
	return lines
}
