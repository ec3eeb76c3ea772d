package image

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestNormalizeAsKubeletDoes(t *testing.T) {
	for given, want := range map[string]string{
		"busybox":                  "docker.io/library/busybox:latest",
		"postgres:15":              "docker.io/library/postgres:15",
		"godwit-io/godwit:dev":     "docker.io/godwit-io/godwit:dev",
		"sandbox.local/pause:1":    "sandbox.local/pause:1",
		"localhost/app":            "localhost/app:latest",
		"registry.test:5000/a/b:c": "registry.test:5000/a/b:c",
	} {
		got, err := Normalize(given)
		if err != nil || got != want {
			t.Errorf("Normalize(%q) = %q, %v; want %q", given, got, err, want)
		}
	}
	for _, bad := range []string{"", "Upper", "a b", "a@sha256:00"} {
		if got, err := Normalize(bad); err == nil {
			t.Errorf("Normalize(%q) = %q, want an error", bad, got)
		}
	}
}

// write makes an archive of a small layer.
func write(t *testing.T, dir, file, text string) string {
	t.Helper()
	l, err := NewLayer(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a temporary file
	if err := l.Text("/etc/text", text, 0o644); err != nil {
		t.Fatal(err)
	}
	layer, err := l.Finish()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := Write(filepath.Join(dir, file), "app:dev", layer, Config{Entrypoint: []string{"/x"}})
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func TestSameContentSameDigest(t *testing.T) {
	dir := t.TempDir()
	first, second, other := write(t, dir, "1.tar", "one"), write(t, dir, "2.tar", "one"), write(t, dir, "3.tar", "two")
	if first != second {
		t.Errorf("the same content has digests %s and %s", first, second)
	}
	if first == other {
		t.Error("other content has the same digest")
	}
	a, err := os.ReadFile(filepath.Join(dir, "1.tar"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "2.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("archives of the same content differ")
	}
	names, err := Names(filepath.Join(dir, "1.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 1 || names["docker.io/library/app:dev"] != first {
		t.Errorf("archive names %v, want docker.io/library/app:dev at %s", names, first)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v %v", left, err)
	}
}

func TestNamesRefusesWhatIsNoImage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(file, []byte("not a tar at all, but long enough to look like one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if names, err := Names(file); err == nil {
		t.Errorf("Names = %v, want an error", names)
	}
}

func TestMergeKeepsTheFirstAndLeavesManualsOut(t *testing.T) {
	var pkg bytes.Buffer
	tw := tar.NewWriter(&pkg)
	for name, text := range map[string]string{"./usr/bin/x": "packaged", "./usr/share/doc/x/copyright": "words"} {
		if err := tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(text)), Uid: 7}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := NewLayer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a temporary file
	if err := l.Text("usr/bin/x", "copied", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := l.Merge(&pkg); err != nil {
		t.Fatal(err)
	}
	if _, ok := l.seen["usr/share/doc/x/copyright"]; ok {
		t.Error("a manual was kept")
	}
	file, err := l.Finish()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("copied")) || bytes.Contains(b, []byte("packaged")) {
		t.Error("the second content of a path was kept, not the first")
	}
}
