package cluster

import (
	"fmt"

	"github.com/godwit-io/godwit/test/sandbox/internal/node"
)

// daemonEnv keeps the memory of ten Go programs per node down; they are mostly idle.
func daemonEnv() []string { return []string{"GOGC=50"} }

func (c Cluster) daemon(i int, name, program string, after []node.Probe, args ...string) node.Daemon {
	return node.Daemon{
		Name: name, Argv: append([]string{c.Programs[program]}, args...), Env: daemonEnv(),
		Log: c.log(i, name), After: after,
	}
}

// controlPlane is etcd and what stands on it. Order matters for speed: a refused first connection
// to etcd costs the API server a second, and a controller manager started before the API server is
// ready waits ten.
func (c Cluster) controlPlane() []node.Daemon {
	etcdUp := []node.Probe{{TCP: fmt.Sprintf("127.0.0.1:%d", c.ports().Etcd)}}
	apiUp := []node.Probe{c.api()}
	daemons := []node.Daemon{
		c.daemon(0, "etcd", "etcd", nil, c.etcdArgs()...),
		c.daemon(0, "kube-apiserver", "kube-apiserver", etcdUp, c.apiserverArgs()...),
		c.daemon(0, "kube-controller-manager", "kube-controller-manager", apiUp, c.controllerManagerArgs()...),
		c.daemon(0, "kube-scheduler", "kube-scheduler", apiUp,
			"--kubeconfig="+c.path("scheduler.kubeconfig"),
			"--authentication-kubeconfig="+c.path("scheduler.kubeconfig"),
			"--authorization-kubeconfig="+c.path("scheduler.kubeconfig"),
			"--bind-address=127.0.0.1", c.healthPort(10259), "--leader-elect=false", "--profiling=false", "--cert-dir="+c.path("pki")),
	}
	if !c.ControlPlane {
		daemons = append(daemons, c.daemon(0, "coredns", "coredns", apiUp, "-conf", c.nodePath(0, "conf", "Corefile")))
	}
	return daemons
}

// healthPort is the port that a controller tells its health on; clusters that share the host's
// network do without.
func (c Cluster) healthPort(usual int) string {
	if c.ControlPlane {
		usual = 0
	}
	return fmt.Sprintf("--secure-port=%d", usual)
}

func (c Cluster) etcdArgs() []string {
	client := fmt.Sprintf("http://127.0.0.1:%d", c.ports().Etcd)
	peer := fmt.Sprintf("http://127.0.0.1:%d", c.ports().EtcdPeer)
	return []string{
		"--name", c.Name, "--data-dir", c.path("etcd"),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", c.Name + "=" + peer,
		// A killed process loses nothing without fsync, only a machine that loses power does.
		"--unsafe-no-fsync", "--log-level", "warn",
		"--heartbeat-interval", "500", "--election-timeout", "5000", "--initial-election-tick-advance=true",
	}
}

func (c Cluster) apiserverArgs() []string {
	listen := []string{"--bind-address=0.0.0.0", "--advertise-address=" + c.ip(0)}
	if c.ControlPlane {
		// A loopback address cannot be the endpoint of the Service kubernetes.default.
		listen = []string{"--bind-address=127.0.0.1", "--endpoint-reconciler-type=none"}
	}
	return append(listen,
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", c.ports().Etcd),
		fmt.Sprintf("--secure-port=%d", c.ports().API),
		"--tls-cert-file="+c.pki("apiserver.crt"), "--tls-private-key-file="+c.pki("apiserver.key"),
		"--client-ca-file="+c.pki("ca.crt"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--service-cluster-ip-range="+c.Place.Services().String(),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+c.pki("sa.pub"), "--service-account-signing-key-file="+c.pki("sa.key"),
		"--kubelet-client-certificate="+c.pki("apiserver-kubelet-client.crt"),
		"--kubelet-client-key="+c.pki("apiserver-kubelet-client.key"),
		"--kubelet-certificate-authority="+c.pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--requestheader-client-ca-file="+c.pki("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+c.pki("front-proxy-client.crt"),
		"--proxy-client-key-file="+c.pki("front-proxy-client.key"),
		"--enable-aggregator-routing=true", "--profiling=false", "--cert-dir="+c.path("pki"),
	)
}

func (c Cluster) controllerManagerArgs() []string {
	kubeconfig := c.path("kcm.kubeconfig")
	args := []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1", c.healthPort(10257), "--leader-elect=false", "--use-service-account-credentials=true",
		"--root-ca-file=" + c.pki("ca.crt"), "--client-ca-file=" + c.pki("ca.crt"),
		"--requestheader-client-ca-file=" + c.pki("front-proxy-ca.crt"),
		"--service-account-private-key-file=" + c.pki("sa.key"),
		"--cluster-signing-cert-file=" + c.pki("ca.crt"), "--cluster-signing-key-file=" + c.pki("ca.key"),
		"--cluster-name=" + c.Name,
		// The defaults (20 and 30) let some forty controllers queue for four seconds at the start.
		"--kube-api-qps=300", "--kube-api-burst=600",
		"--pvclaimbinder-sync-period=5s", "--attach-detach-reconcile-sync-period=5s",
		"--profiling=false", "--cert-dir=" + c.path("pki"),
	}
	if c.ControlPlane {
		// The stand-in for kubelet does not beat: its node is there as long as the cluster is.
		args = append(args, "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller")
	}
	return args
}

// corefile is DNS for the cluster's own names; a sandbox has no others to ask.
func (c Cluster) corefile() string {
	return fmt.Sprintf(`.:53 {
  bind %[1]s
  errors
  ready %[1]s:8181
  kubernetes cluster.local in-addr.arpa {
    kubeconfig %[2]s %[3]s
    pods insecure
  }
  cache 5
}
`, c.ip(0), c.path("addons.kubeconfig"), c.Name)
}
