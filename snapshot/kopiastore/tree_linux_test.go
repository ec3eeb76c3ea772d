package kopiastore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/manifest"
	kopia "github.com/kopia/kopia/snapshot"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

func TestTrees(t *testing.T) {
	snapshottest.TestTrees(t, open(t, New(), folder(t)))
}

// TestLiveTree has files vanish and change between the walk and their reading.
func TestLiveTree(t *testing.T) {
	r := open(t, New(), folder(t))
	for name, c := range map[string]struct {
		do   func(file string) error
		want string
	}{
		"vanished": {os.Remove, "victim vanished"},
		"changed":  {func(f string) error { return os.WriteFile(f, []byte("other"), 0o600) }, "victim changed"},
		"replaced": {func(f string) error {
			return errors.Join(os.WriteFile(f+"2", []byte("same!"), 0o600), os.Rename(f+"2", f))
		}, "victim changed"},
		"symlinked": {func(f string) error { return errors.Join(os.Remove(f), os.Symlink("/etc/passwd", f)) }, "victim"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{"one", "victim", "two"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("same!"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			root, walked, err := walkTree(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.do(filepath.Join(dir, "victim")); err != nil {
				t.Fatal(err)
			}
			u := &treeUpload{
				repository: r, progress: newTreeProgress(nil, walked), root: root,
				image: snapshot.Image{Volume: snapshot.Volume{Cluster: "c", Namespace: "n", Name: "live"}},
			}
			_, u.session, err = r.rep.NewDirectWriter(t.Context(), repo.WriteSessionOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = u.session.Close(t.Context()) }()
			_, err = u.upload(t.Context(), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("upload says %v, want %q", err, c.want)
			}
		})
	}
}

// TestKilledTreeSendsTheRest kills a tree's upload, and runs it again.
func TestKilledTreeSendsTheRest(t *testing.T) {
	t.Parallel()
	l, dir := folder(t), t.TempDir()
	const files, size = 16, 4 << 20
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), noise(size, byte(i)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := justOpen(t.Context(), New(), l); err != nil {
		t.Fatal(err)
	}
	left := &atomic.Int64{}
	left.Store(3) // the session's mark, and two packs
	killer := New()
	killer.wrap = func(st blob.Storage) blob.Storage { return dyingStorage{st, left} }
	image := snapshot.Image{Volume: snapshot.Volume{Cluster: "c", Namespace: "n", Name: "tree"}}
	if _, err := open(t, killer, l).BackupTree(t.Context(), dir, image, "", nil); err == nil {
		t.Fatal("it lived")
	}
	before := sent(t, l.Path)
	if _, err := open(t, New(), l).BackupTree(t.Context(), dir, image, "", nil); err != nil {
		t.Fatal(err)
	}
	after := sent(t, l.Path)
	if before < 30<<20 || after > files*size+(1<<20) {
		t.Errorf("%d MiB were stored before the kill, and %d MiB for %d after it", before>>20, after>>20, files*size>>20)
	}
}

// TestKilledTreeReadsTheRest kills a tree's upload after its checkpoint, changes a file
// and sets its time back, and runs it again.
func TestKilledTreeReadsTheRest(t *testing.T) {
	t.Parallel()
	l, dir := folder(t), t.TempDir()
	// The large one is what is under way when the others are through.
	const files, size, large = 40, 1 << 20, 512 << 20
	name := func(i int) string { return filepath.Join(dir, fmt.Sprint("folder", i%3), fmt.Sprintf("file%02d", i)) }
	for i := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name(i)), 0o700), os.WriteFile(name(i), noise(size, byte(i)), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	image := snapshot.Image{Volume: snapshot.Volume{Cluster: "c", Namespace: "n", Name: "tree"}}
	watcher := open(t, New(), l)
	r, err := open(t, New(), l).BackupTree(t.Context(), dir, image, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		if err := os.WriteFile(name(i), noise(size, byte(100+i)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "large"), nil, 0o600), os.Truncate(filepath.Join(dir, "large"), large)); err != nil {
		t.Fatal(err)
	}
	points := func() []*kopia.Manifest {
		found, err := watcher.treeCheckpoints(t.Context(), image.Volume)
		if err != nil {
			t.Error(err)
		}
		return found
	}
	o := New()
	o.treeCheckpointEvery = 5 * time.Millisecond
	ctx, kill := context.WithCancel(t.Context())
	once := sync.OnceFunc(func() {
		// The one that begins after another has ended has all files that were through.
		seen := map[manifest.ID]bool{}
		for end := time.Now().Add(time.Minute); len(seen) < 3 && time.Now().Before(end); time.Sleep(time.Millisecond) {
			for _, m := range points() {
				seen[m.ID] = true
			}
		}
		kill()
	})
	_, err = open(t, o, l).BackupTree(ctx, dir, image, r.ID, func(s snapshot.Stats) {
		if s.Done > files*size+large/8 {
			once()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if n := len(points()); n != 1 {
		t.Fatalf("%d checkpoints are left", n)
	}
	info, err := os.Stat(name(0))
	if err != nil {
		t.Fatal(err)
	}
	late := noise(size, 99)
	if err := errors.Join(os.WriteFile(name(0), late, 0o600), os.Chtimes(name(0), info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	var last snapshot.Stats
	second := open(t, New(), l)
	image, err = second.BackupTree(t.Context(), dir, image, r.ID, func(s snapshot.Stats) { last = s })
	if err != nil {
		t.Fatal(err)
	}
	if small := last.Read - large; small < size || small > files*size/2 || last.Done != files*size+large {
		t.Errorf("run again it read %d KiB of %d: %+v", small>>10, files*size>>10, last)
	}
	if n := len(points()); n > 0 {
		t.Errorf("%d checkpoints are left of what is complete", n)
	}
	back := t.TempDir()
	if _, err := second.RestoreTree(t.Context(), image.ID, back, nil); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		want := noise(size, byte(100+i))
		if i == 0 {
			want = late
		}
		got, err := os.ReadFile(filepath.Join(back, fmt.Sprint("folder", i%3), filepath.Base(name(i))))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("file %d came back different (%v)", i, err)
		}
	}
}

// TestStockKopiaRestoresTree holds stock kopia's restore against the files.
func TestStockKopiaRestoresTree(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: sets owners and makes devices")
	}
	l := folder(t)
	dir := t.TempDir()
	snapshottest.MakeTree(t, dir)
	image, err := open(t, New(), l).BackupTree(t.Context(), dir, snapshot.Image{Volume: snapshot.Volume{Cluster: "c", Namespace: "n", Name: "tree"}}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newStock(t, l)
	s.run("snapshot", "verify", "--verify-files-percent=100")
	target := filepath.Join(t.TempDir(), "restored")
	s.run("snapshot", "restore", string(image.ID), target)
	for _, name := range []string{"file", "large", "sparse", "a folder/file 123 ü", "日本", "line\nbreak", ".kopiaignore", "x.kopia-entry", "linked too", "bytes \xff\xfe"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(target, volumeName, filepath.Dir(name), storedName(filepath.Base(name))))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q came back different (%v)", name, err)
		}
	}
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"path":"","type":"directory"}` + "\n" + `{"path":"a","type":"file","size":3}` + "\n" + `{"path":{"base64":"/w=="},"type":"file","link":"a"}`))
	f.Add([]byte(`{"path":"","type":"directory"}` + "\n" + `{"path":"../a","type":"file"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		records, err := readRecords(bytes.NewReader(data))
		if err != nil {
			return
		}
		for i, e := range records {
			if clean := filepath.Join("/volume", string(e.Path)); clean != "/volume" && !strings.HasPrefix(clean, "/volume/") {
				t.Fatalf("path %q leaves the volume", e.Path)
			}
			line, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			var again record
			if err := json.Unmarshal(line, &again); err != nil || again.Path != e.Path || again.Target != e.Target {
				t.Fatalf("record %d came back as %+v (%v)", i, again, err)
			}
		}
	})
}
