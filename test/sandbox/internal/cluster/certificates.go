package cluster

import (
	"fmt"
	"os"
	"time"

	"github.com/godwit-io/godwit/test/sandbox/internal/kubeapi"
	"github.com/godwit-io/godwit/test/sandbox/internal/pki"
)

// ensureCertificates makes authorities, certificates and kubeconfigs as far as they are missing.
func (c Cluster) ensureCertificates(now time.Time) error {
	ca, err := pki.EnsureAuthority(c.path("pki"), "ca", c.Name+"-ca", now)
	if err != nil {
		return err
	}
	proxyCA, err := pki.EnsureAuthority(c.path("pki"), "front-proxy-ca", c.Name+"-front-proxy-ca", now)
	if err != nil {
		return err
	}
	if _, err := proxyCA.Ensure(pki.Subject{File: "front-proxy-client", CommonName: "front-proxy-client"}, now); err != nil {
		return err
	}
	if err := pki.EnsureSigningKey(c.path("pki"), "sa"); err != nil {
		return err
	}
	for _, s := range c.servers() {
		if _, err := ca.Ensure(s, now); err != nil {
			return err
		}
	}
	for _, s := range c.users() {
		leaf, err := ca.Ensure(s, now)
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.path(s.File+".kubeconfig"), pki.Kubeconfig(c.Name, c.Server(), ca.PEM(), leaf), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c Cluster) servers() []pki.Subject {
	service := c.Place.KubernetesService().String()
	return []pki.Subject{
		{File: "apiserver", CommonName: "kube-apiserver", Names: []string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
			"localhost", c.Name, "127.0.0.1", c.ip(0), service,
		}},
		{File: "apiserver-kubelet-client", CommonName: "kube-apiserver-kubelet-client", Organizations: []string{"system:masters"}},
		{File: "snapshot-metadata", CommonName: "snapshot-metadata", Names: []string{c.ip(0), "127.0.0.1", "localhost"}},
	}
}

// users are the identities that get a kubeconfig of the same name.
func (c Cluster) users() []pki.Subject {
	masters := []string{"system:masters"}
	users := []pki.Subject{
		{File: "admin", CommonName: "kubernetes-admin", Organizations: masters},
		{File: "kcm", CommonName: "system:kube-controller-manager"},
		{File: "scheduler", CommonName: "system:kube-scheduler"},
		{File: "kube-proxy", CommonName: "system:kube-proxy"},
		{File: "addons", CommonName: "sandbox-addons", Organizations: masters}, // CSI sidecars and DNS
	}
	for i := range c.Nodes {
		users = append(users, pki.Subject{
			File: fmt.Sprintf("kubelet-%d", i), CommonName: "system:node:" + c.NodeName(i),
			Organizations: []string{"system:nodes"}, Names: []string{c.NodeName(i), c.ip(i), "127.0.0.1"},
		})
	}
	return users
}

// Client talks to the cluster's API server as its administrator.
func (c Cluster) Client(now time.Time) (*kubeapi.Client, error) {
	ca, err := pki.EnsureAuthority(c.path("pki"), "ca", c.Name+"-ca", now)
	if err != nil {
		return nil, err
	}
	leaf, err := ca.Ensure(c.users()[0], now)
	if err != nil {
		return nil, err
	}
	return kubeapi.New(c.Server(), ca.PEM(), leaf)
}
