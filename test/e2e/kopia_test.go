package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// stockKopia gets the raw volume back with nothing but kopia, the bucket and
// the pair's password.
func stockKopia(ctx context.Context, t *testing.T, g *scenario.Ground, m api.Migration) {
	pair, err := scenario.Get[api.ClusterPair](ctx, g.Source, "-n", m.Namespace, "clusterpairs.godwit.io", m.Spec.ClusterPair)
	must(t, err)
	secret, err := scenario.Get[corev1.Secret](ctx, g.Source, "-n", scenario.Namespace, "secret", "repository-"+pair.Status.PairID)
	must(t, err)
	dir := t.TempDir()
	program, err := scenario.Tool(ctx, g.Root, "kopia")
	must(t, err)
	kopia := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(ctx, program, append([]string{"--config-file=" + filepath.Join(dir, "kopia.config"), "--log-dir=" + dir}, args...)...)
		cmd.Env = append(os.Environ(), "KOPIA_PASSWORD="+string(secret.Data["password"]), "KOPIA_CHECK_FOR_UPDATES=false", "KOPIA_CACHE_DIRECTORY="+filepath.Join(dir, "cache"))
		out, err := cmd.Output()
		if err != nil {
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				t.Fatalf("kopia %s: %v: %s", args[0], err, exit.Stderr)
			}
			t.Fatalf("kopia %s: %v", args[0], err)
		}
		return string(out)
	}
	kopia("repository", "connect", "s3", "--readonly", "--bucket", g.Store.Bucket, "--prefix", string(secret.Data["prefix"]),
		"--endpoint", strings.TrimPrefix(g.Store.Endpoint, "https://"), "--region", g.Store.Region,
		"--access-key", g.Store.AccessKey, "--secret-access-key", g.Store.SecretKey, "--root-ca-pem-path", g.Store.CAFile)
	kopia("snapshot", "verify", "--verify-files-percent=100")
	var listed []struct {
		ID     string `json:"id"`
		Source struct {
			Path string `json:"path"`
		} `json:"source"`
	}
	must(t, json.Unmarshal([]byte(kopia("snapshot", "list", "--all", "--json")), &listed))
	for _, s := range listed {
		if s.Source.Path != "/"+m.Namespace+"/ledger" {
			continue
		}
		restored := filepath.Join(dir, "restored")
		kopia("restore", s.ID, restored)
		out, err := g.Target.Script(ctx, m.Namespace, "deployment/ledger", "sha256sum < /dev/ledger")
		must(t, err)
		want, _, _ := strings.Cut(string(out), " ")
		if got := hashOf(t, filepath.Join(restored, "volume")); got != want {
			t.Errorf("kopia restored a volume of sha256 %s, the target has %s", got, want)
		}
		return
	}
	t.Fatalf("kopia lists no snapshot of the ledger: %+v", listed)
}

func hashOf(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close() //nolint:errcheck // read only
	h := sha256.New()
	_, err = io.Copy(h, f)
	must(t, err)
	return hex.EncodeToString(h.Sum(nil))
}
