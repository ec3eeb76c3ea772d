package controller_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// server is the API server, with Godwit's kinds, that all tests share, each in a
// namespace of its own; nil where there are no programs for it.
var server *rest.Config

func TestMain(m *testing.M) {
	os.Exit(func() int {
		programs := os.Getenv("GODWIT_KUBE_BIN")
		if programs == "" {
			return m.Run()
		}
		env := &envtest.Environment{
			BinaryAssetsDirectory:    programs,
			ControlPlaneStartTimeout: 2 * time.Minute,
			CRDDirectoryPaths:        []string{filepath.Join("..", "..", "deploy", "chart", "crds")},
			ErrorIfCRDPathMissing:    true,
		}
		config, err := env.Start()
		if err != nil {
			fmt.Fprintf(os.Stderr, "start etcd and kube-apiserver from %s: %v\n", programs, err)
			return 1
		}
		defer func() {
			if err := env.Stop(); err != nil {
				fmt.Fprintf(os.Stderr, "stop the API server: %v\n", err)
			}
		}()
		config.QPS, config.Burst = 500, 1000
		server = config
		return m.Run()
	}())
}

// connect gives a client without a cache, and a new namespace.
func connect(t *testing.T) (client.Client, string) {
	t.Helper()
	if server == nil {
		t.Skip("needs GODWIT_KUBE_BIN: make test sets it")
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), snapshotv1.AddToScheme(scheme), api.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(server, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())) + "-"}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return c, ns.Name
}
