//go:build sdktest

package integration

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// conformance are the suite's specs of the services that Godwit serves.
const conformance = `Identity Service|Cluster \[OpenStorageCluster\]|Credentials \[OpenStorageCredentials\]`

// TestConformance runs the OpenStorage SDK's own test suite against the pairing
// port: every spec of Identity, Cluster and Credentials has to pass.
func TestConformance(t *testing.T) {
	g, ctx := ground(t)
	must(t, serveSDK(ctx, t, g, g.Target))
	suite := buildSuite(ctx, t, filepath.Join(g.Root, ".tools", "sdk-test"))
	id, err := g.Target.Kubectl(ctx, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
	must(t, err)
	stores := filepath.Join(t.TempDir(), "stores.yaml")
	must(t, os.WriteFile(stores, fmt.Appendf(nil, `cloudproviders:
  aws: {CredName: suite, CredRegion: us-east-1, CredAccessKey: %s, CredSecretKey: %s, CredEndpoint: "%s", CredDisableSSL: "true"}
`, storeKey, storeSecret, plainStore(ctx, t, id)), 0o600))
	run := exec.CommandContext(ctx, suite, "-ginkgo.focus", conformance, "-ginkgo.noColor", "-test.v")
	run.Env = append(os.Environ(), "SDK_ENDPOINT="+withoutTLS(ctx, t, pairingAddress(ctx, t, g.Target)), "SDK_ISSUER="+sdkIssuer, "SDK_SECRET="+sdkSecret, "SDK_CREDENTIAL="+stores)
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("the suite: %v\n%s", err, out)
	}
	ran := regexp.MustCompile(`Ran (\d+) of \d+ Specs[^\n]*\n[^\n]*`).FindSubmatch(out)
	if ran == nil {
		t.Fatalf("the suite does not say what it ran:\n%s", out)
	}
	t.Logf("%s", ran[0])
	if n, err := strconv.Atoi(string(ran[1])); err != nil || n < 11 {
		t.Errorf("it ran %d specs, and Identity, Cluster and Credentials have 11:\n%s", n, out)
	}
}

// suiteMain runs the suite as the environment says.
const suiteMain = `package conformance

import (
	"os"
	"testing"

	"github.com/libopenstorage/sdk-test/pkg/sanity"
	"gopkg.in/yaml.v2"
)

func TestConformance(t *testing.T) {
	text, err := os.ReadFile(os.Getenv("SDK_CREDENTIAL"))
	if err != nil {
		t.Fatal(err)
	}
	stores := &sanity.CloudProviderConfig{}
	if err := yaml.Unmarshal(text, stores); err != nil {
		t.Fatal(err)
	}
	sanity.Test(t, &sanity.SanityConfiguration{
		Address: os.Getenv("SDK_ENDPOINT"), Issuer: os.Getenv("SDK_ISSUER"), SharedSecret: os.Getenv("SDK_SECRET"), ProviderConfig: stores,
	})
}
`

// buildSuite copies the suite from GODWIT_SDK_TEST, a checkout of
// github.com/libopenstorage/sdk-test, and builds it with the SDK's present Go
// code. No registry has it. The specs of ownership stay away: they are of volumes,
// and no longer fit that code.
func buildSuite(ctx context.Context, t *testing.T, module string) string {
	t.Helper()
	checkout := os.Getenv("GODWIT_SDK_TEST")
	if checkout == "" {
		t.Fatal("GODWIT_SDK_TEST is not set: make sdk-test SDK_TEST=FOLDER sets it to a checkout of github.com/libopenstorage/sdk-test")
	}
	dir := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum"} {
		copied(t, filepath.Join(module, name), filepath.Join(dir, name))
	}
	must(t, os.WriteFile(filepath.Join(dir, "sdk_test.go"), []byte(suiteMain), 0o600))
	for _, pkg := range []string{"auth", "sanity"} {
		files, err := filepath.Glob(filepath.Join(checkout, "pkg", pkg, "*.go"))
		must(t, err)
		if len(files) == 0 {
			t.Fatalf("%s has no package pkg/%s", checkout, pkg)
		}
		for _, file := range files {
			if filepath.Base(file) != "ownership.go" {
				copied(t, file, filepath.Join(dir, "suite", "pkg", pkg, filepath.Base(file)))
			}
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "suite", "go.mod"), []byte("module github.com/libopenstorage/sdk-test\n\ngo 1.26.0\n"), 0o600))
	program := filepath.Join(dir, "sdk-test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-mod=mod", "-o", program, ".")
	build.Dir, build.Env = dir, append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the suite: %v: %s", err, out)
	}
	return program
}

// copied brings the SDK's old name to the one that it is published by now.
func copied(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	must(t, err)
	must(t, os.MkdirAll(filepath.Dir(to), 0o750))
	now := strings.ReplaceAll(string(text), "github.com/libopenstorage/openstorage-sdk-clients/sdk/golang", "github.com/libopenstorage/openstorage/api")
	must(t, os.WriteFile(to, []byte(now), 0o600))
}

// withoutTLS hands on to a server with TLS what comes without it: the suite knows none.
func withoutTLS(ctx context.Context, t *testing.T, server string) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	// Which certificate the server has is not this test's affair.
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}} //nolint:gosec // see above
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return // The test is over.
			}
			// The suite waits for its connection to change, and for ever if that is
			// ready before it looks.
			select {
			case <-ctx.Done():
				return
			case <-time.After(500 * time.Millisecond):
			}
			far, err := dialer.DialContext(ctx, "tcp", server)
			if err != nil {
				_ = near.Close()
				continue
			}
			go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
			go func() { _, _ = io.Copy(near, far); _ = near.Close() }()
		}
	}()
	return listener.Addr().String()
}
