package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godwit-io/godwit/test/scenario"
)

const (
	sdkIssuer = "openstorage.io"
	sdkSecret = "a shared secret of the conformance suite"
	storeKey  = "sdk-access"
	// storeSecret is looked for in everything that is said.
	storeSecret = "sdk-secret-of-the-store"
)

// serveSDK lets a cluster's controller serve the SDK until the test ends.
func serveSDK(ctx context.Context, t *testing.T, g *scenario.Ground, c scenario.Cluster) error {
	t.Helper()
	restart := func(ctx context.Context) error {
		if err := g.StopBeside(ctx, c, "godwitd controller"); err != nil {
			return err
		}
		return g.StartBeside(ctx, c, "godwitd controller")
	}
	if err := allowSDK(ctx, t, c); err != nil {
		return err
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		must(t, restart(ctx))
		must(t, awaitListening(ctx, pairingAddress(ctx, t, c)))
	})
	if err := restart(ctx); err != nil {
		return err
	}
	return awaitListening(ctx, pairingAddress(ctx, t, c))
}

// allowSDK says who may sign the SDK's tokens, for a controller that starts.
func allowSDK(ctx context.Context, t *testing.T, c scenario.Cluster) error {
	t.Helper()
	t.Cleanup(func() {
		_, err := c.Kubectl(context.WithoutCancel(ctx), "-n", scenario.Namespace, "delete", "secret", "godwit-sdk", "--ignore-not-found")
		must(t, err)
	})
	return c.Apply(ctx, fmt.Appendf(nil, "{apiVersion: v1, kind: Secret, metadata: {name: godwit-sdk, namespace: %s}, stringData: {issuer: %s, sharedSecret: %q}}",
		scenario.Namespace, sdkIssuer, sdkSecret))
}

func awaitListening(ctx context.Context, address string) error {
	var dialer net.Dialer
	return scenario.Await(ctx, scenario.Soon, address+" to listen", func(ctx context.Context) (bool, string, error) {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return false, err.Error(), nil //nolint:nilerr // not yet
		}
		return true, "", conn.Close()
	})
}

// pairingAddress is what the cluster tells of itself.
func pairingAddress(ctx context.Context, t *testing.T, c scenario.Cluster) string {
	t.Helper()
	address, err := c.Kubectl(ctx, "-n", scenario.Namespace, "get", "configmap", "godwit-cluster-info", "-o", "jsonpath={.data.endpoint}")
	must(t, err)
	return address
}

// plainStore is an object store without TLS, since the suite's credentials name no
// authority, with one bucket.
func plainStore(ctx context.Context, t *testing.T, bucket string) string {
	t.Helper()
	gateway := os.Getenv("GODWIT_VERSITYGW")
	if gateway == "" {
		t.Skip("needs GODWIT_VERSITYGW: make test sets it")
	}
	root := t.TempDir()
	must(t, os.Mkdir(filepath.Join(root, strings.TrimSpace(bucket)), 0o750))
	free, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	must(t, err)
	address := free.Addr().String()
	must(t, free.Close())
	cmd := exec.Command(gateway, "--quiet", "--port", address, "--access", storeKey, "--secret", storeSecret, "posix", root)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	must(t, awaitListening(ctx, address))
	return address
}
