package target_test

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// apiServer is the one that the tests of this package share, in turn: each gets
// it as if it had just been started.
type apiServer struct {
	environment *envtest.Environment
	config      *rest.Config
	origin      *origin
	taken       sync.Mutex
}

// sharedServer starts it for the first test that asks, and keeps it for the others.
var sharedServer = sync.OnceValues(startServer)

// serverStarted says that there is one to stop.
var serverStarted bool

func TestMain(m *testing.M) {
	code := m.Run()
	if serverStarted {
		server, err := sharedServer()
		if err == nil {
			err = server.environment.Stop()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "stop the API server: %v\n", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

func startServer() (_ *apiServer, err error) {
	programs := os.Getenv("GODWIT_KUBE_BIN")
	s := &apiServer{environment: &envtest.Environment{
		BinaryAssetsDirectory: programs, ControlPlaneStartTimeout: 2 * time.Minute,
		CRDDirectoryPaths: []string{"../../deploy/chart/crds"}, ErrorIfCRDPathMissing: true,
	}}
	if s.config, err = s.environment.Start(); err != nil {
		return nil, fmt.Errorf("start etcd and kube-apiserver from %s: %w", programs, err)
	}
	s.config.QPS, s.config.Burst = 500, 1000
	if s.origin, err = newOrigin(s.environment.ControlPlane.Etcd.URL.String(), s.config); err != nil {
		return nil, errors.Join(err, s.environment.Stop())
	}
	serverStarted = true
	return s, nil
}

// freshServer gives a test the API server to itself, with Godwit's kinds and nothing
// of any other test in it. What the test leaves behind is taken away when it ends; a
// test that leaves what cannot be taken away has failed.
func freshServer(t *testing.T) *rest.Config {
	t.Helper()
	if os.Getenv("GODWIT_KUBE_BIN") == "" {
		t.Skip("needs GODWIT_KUBE_BIN: make test sets it")
	}
	server, err := sharedServer()
	if err != nil {
		t.Fatal(err)
	}
	if !server.taken.TryLock() {
		t.Fatal("another test has the API server: tests that ask for it cannot be parallel")
	}
	t.Cleanup(func() {
		defer server.taken.Unlock()
		if err := server.origin.restore(); err != nil {
			t.Errorf("make the API server new again: %v", err)
		}
	})
	return rest.CopyConfig(server.config)
}
