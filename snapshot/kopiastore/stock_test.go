package kopiastore

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// stock runs stock kopia on a repository, with a configuration of its own.
type stock struct {
	t      *testing.T
	binary string
	dir    string
}

func newStock(t *testing.T, l snapshot.Location) stock {
	t.Helper()
	s := stock{t, snapshottest.Kopia(t), t.TempDir()}
	args := []string{"repository", "connect", "filesystem", "--path", l.Path}
	if l.Type == snapshot.S3 {
		ca := filepath.Join(s.dir, "ca.pem")
		if err := os.WriteFile(ca, l.CABundle, 0o600); err != nil {
			t.Fatal(err)
		}
		args = []string{"repository", "connect", "s3", "--endpoint", l.Endpoint, "--bucket", l.Bucket, "--prefix", l.Prefix,
			"--access-key", l.AccessKeyID, "--secret-access-key", l.SecretAccessKey.Reveal(), "--root-ca-pem-path", ca}
	}
	s.run(append(args, "--password", l.Password.Reveal(), "--override-hostname", "stock", "--override-username", "stock")...)
	return s
}

func (s stock) run(args ...string) string {
	s.t.Helper()
	cmd := exec.Command(s.binary, args...)
	cmd.Env = append(os.Environ(), "KOPIA_CONFIG_PATH="+filepath.Join(s.dir, "config"), "KOPIA_CACHE_DIRECTORY="+filepath.Join(s.dir, "cache"),
		"KOPIA_LOG_DIR="+filepath.Join(s.dir, "log"), "KOPIA_CHECK_FOR_UPDATES=false", "HOME="+s.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("kopia %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestStockKopia(t *testing.T) {
	t.Parallel()
	t.Run("folder", func(t *testing.T) { testStock(t, folder(t)) })
	t.Run("object store", func(t *testing.T) { testStock(t, snapshottest.StartObjectStore(t).Location(t, "stock")) })
}

// testStock lists, verifies, restores and collects with stock kopia.
func testStock(t *testing.T, l snapshot.Location) {
	r := open(t, New(), l)
	data := append(noise(70<<20, 4), make([]byte, 70<<20+777)...)
	full, _, err := backup(t, r, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(data)
	copy(changed[100<<20:], noise(300<<10, 5))
	delta, stats, err := backup(t, r, changed, func(r *snapshot.BackupRequest) {
		r.Image.Method, r.Parent, r.Extents = snapshot.MethodDelta, full.ID, []snapshot.Extent{{Offset: 100 << 20, Length: 300 << 10}}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("delta: %+v", stats)
	s := newStock(t, l)
	list := s.run("snapshot", "list", "--all", "--json")
	for _, want := range []string{string(full.ID), string(delta.ID), `"/ns/v"`, `"c1"`, `"godwit"`} {
		if !strings.Contains(list, want) {
			t.Errorf("the list has no %s:\n%s", want, list)
		}
	}
	s.run("snapshot", "verify", "--verify-files-percent=100")
	collect := func() {
		s.run("maintenance", "set", "--owner=me")
		s.run("maintenance", "run", "--full", "--safety=none")
	}
	collect()
	for id, want := range map[snapshot.ImageID][]byte{full.ID: data, delta.ID: changed} {
		s.compare(id, want)
	}
	if err := r.Forget(t.Context(), full.ID); err != nil {
		t.Fatal(err)
	}
	collect()
	s.compare(delta.ID, changed)
	latest := s.retain(t, r, changed, delta)
	collect()
	own := l
	own.CacheDir = ""
	sink := snapshottest.NewDevice(make([]byte, len(changed)))
	if _, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: latest}, open(t, New(), own)); err != nil || !bytes.Equal(sink.Bytes(), changed) {
		t.Errorf("after stock kopia collected: %v", err)
	}
}

// retain has kopia's own policies keep one image of a volume that has two, and returns it.
func (s stock) retain(t *testing.T, r *Repository, data []byte, of snapshot.Image) snapshot.ImageID {
	t.Helper()
	copy(data, noise(300<<10, 6))
	latest, _, err := backup(t, r, data, func(r *snapshot.BackupRequest) {
		r.Image.Method, r.Parent, r.Extents = snapshot.MethodDelta, of.ID, []snapshot.Extent{{Offset: 0, Length: 300 << 10}}
	})
	if err != nil {
		t.Fatal(err)
	}
	s.run("policy", "set", "--global", "--keep-latest=1", "--keep-hourly=0", "--keep-daily=0", "--keep-weekly=0", "--keep-monthly=0", "--keep-annual=0")
	s.run("snapshot", "expire", "--all", "--delete")
	list := s.run("snapshot", "list", "--all", "--json")
	if strings.Contains(list, string(of.ID)) || !strings.Contains(list, string(latest.ID)) {
		t.Errorf("by a policy that keeps the latest kopia keeps:\n%s", list)
	}
	return latest.ID
}

func (s stock) compare(id snapshot.ImageID, want []byte) {
	s.t.Helper()
	target := filepath.Join(s.t.TempDir(), "restored")
	s.run("snapshot", "restore", string(id), target)
	got, err := os.ReadFile(filepath.Join(target, volumeName))
	if err != nil || !bytes.Equal(got, want) {
		s.t.Errorf("kopia restored other bytes of %s (%v)", id, err)
	}
}
