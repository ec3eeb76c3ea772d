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
			u := &treeUpload{
				repository: r, progress: newTreeProgress(nil),
				image: snapshot.Image{Volume: snapshot.Volume{Cluster: "c", Namespace: "n", Name: "live"}},
			}
			_, walked, err := u.walk(t.Context(), dir, "", nil)
			must(t, err)
			u.root = walked.whole()
			if err := c.do(filepath.Join(dir, "victim")); err != nil {
				t.Fatal(err)
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

// killedTree is a tree whose upload is killed: small files, and a large one that is under
// way when they are through.
type killedTree struct {
	t     *testing.T
	dir   string
	image snapshot.Image
	// watcher is another client.
	watcher *Repository
}

const killedFiles, killedSize, killedLarge = 40, 1 << 20, 512 << 20

func newKilledTree(t *testing.T, l snapshot.Location) *killedTree {
	t.Helper()
	k := &killedTree{t: t, dir: t.TempDir(), watcher: open(t, New(), l), image: snapshot.Image{Volume: snapshot.Volume{Cluster: "c", Namespace: "n", Name: "tree"}}}
	k.fill(0)
	return k
}

func (k *killedTree) addLarge() {
	k.t.Helper()
	large := filepath.Join(k.dir, "large")
	must(k.t, errors.Join(os.WriteFile(large, []byte("begins"), 0o600), os.Truncate(large, killedLarge)))
	time.Sleep(2 * tick)
}

// TestYoungFilesAreReadAgain rewrites a file, with the same size, in the very tick in which
// it was stored, as far as its times tell.
func TestYoungFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		changed time.Time
		want    bool
	}{
		"this moment":         {now, true},
		"the tick before":     {now.Add(-tick / 2), true},
		"long ago":            {now.Add(-time.Hour), false},
		"of a clock ahead":    {now.Add(time.Hour), true},
		"this whole second":   {now.Truncate(time.Second), true},
		"whole, and long ago": {now.Truncate(time.Second).Add(-3 * time.Second), false},
	} {
		if got := isYoung(stamp{c.changed.Unix(), int64(c.changed.Nanosecond())}, now); got != c.want {
			t.Errorf("%s: young is %t", name, got)
		}
	}
	l, dir := folder(t), t.TempDir()
	r := open(t, New(), l)
	image := snapshot.Image{Volume: snapshot.Volume{Cluster: "c", Namespace: "n", Name: "tree"}}
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, []byte("young"), 0o600))
	first, err := r.BackupTree(t.Context(), dir, image, "", nil)
	must(t, err)
	var last snapshot.Stats
	if _, err := r.BackupTree(t.Context(), dir, image, first.ID, func(s snapshot.Stats) { last = s }); err != nil || last.Read != 5 {
		t.Errorf("of a file that was young %d bytes were read again: %v", last.Read, err)
	}
	time.Sleep(2 * tick)
	second, err := r.BackupTree(t.Context(), dir, image, first.ID, nil)
	must(t, err)
	if _, err := r.BackupTree(t.Context(), dir, image, second.ID, func(s snapshot.Stats) { last = s }); err != nil || last.Read != 0 {
		t.Errorf("of a file that was not young %d bytes were read again: %v", last.Read, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (k *killedTree) name(i int) string {
	return filepath.Join(k.dir, fmt.Sprint("folder", i%3), fmt.Sprintf("file%02d", i))
}

func (k *killedTree) fill(seed byte) {
	k.t.Helper()
	for i := range killedFiles {
		must(k.t, errors.Join(os.MkdirAll(filepath.Dir(k.name(i)), 0o700), os.WriteFile(k.name(i), noise(killedSize, seed+byte(i)), 0o600)))
	}
	time.Sleep(2 * tick) // Young files are read again.
}

func (k *killedTree) checkpoints() []*kopia.Manifest {
	k.t.Helper()
	found, err := k.watcher.treeCheckpoints(k.t.Context(), k.image.Volume)
	if err != nil {
		k.t.Error(err)
	}
	return found
}

// late has something done once, while only the large file is left.
func (k *killedTree) late(do func()) snapshot.Progress {
	once := sync.OnceFunc(func() { go do() })
	return func(s snapshot.Stats) {
		if s.Files >= killedFiles {
			once()
		}
	}
}

// awaitCheckpoints waits until there is one that began when all that is through now was.
func (k *killedTree) awaitCheckpoints() {
	seen := map[manifest.ID]bool{}
	for end := time.Now().Add(time.Minute); len(seen) < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			k.t.Error("no checkpoints come")
			return
		}
		for _, m := range k.checkpoints() {
			seen[m.ID] = true
		}
	}
}

// often makes checkpoints all the time.
func often() *Opener {
	o := New()
	o.treeCheckpointEvery = 5 * time.Millisecond
	return o
}

// TestKilledTreeReadsTheRest kills a tree's upload after its checkpoint, and the next one
// before it is as far; it changes a file then and sets its time back, and runs it again.
func TestKilledTreeReadsTheRest(t *testing.T) {
	t.Parallel()
	l := folder(t)
	k := newKilledTree(t, l)
	o := often()
	r := open(t, o, l)
	parent, err := r.BackupTree(t.Context(), k.dir, k.image, "", nil)
	must(t, err)
	k.fill(100)
	k.addLarge()
	kill := func(s *Repository, progress func(kill func()) snapshot.Progress) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := s.BackupTree(ctx, k.dir, k.image, parent.ID, progress(cancel)); !errors.Is(err, context.Canceled) {
			t.Fatalf("it lived: %v", err)
		}
		if n := len(k.checkpoints()); n != 1 {
			t.Fatalf("%d checkpoints are left", n)
		}
	}
	kill(r, func(kill func()) snapshot.Progress {
		return k.late(func() {
			k.awaitCheckpoints()
			kill()
		})
	})
	kill(open(t, often(), l), func(kill func()) snapshot.Progress { return func(snapshot.Stats) { kill() } })
	// It was long to be killed in, and is read three times from here on.
	const left = 16 << 20
	must(t, os.Truncate(filepath.Join(k.dir, "large"), left))
	info, err := os.Stat(k.name(0))
	must(t, err)
	changed := noise(killedSize, 99)
	must(t, errors.Join(os.WriteFile(k.name(0), changed, 0o600), os.Chtimes(k.name(0), info.ModTime(), info.ModTime())))
	var last snapshot.Stats
	image, err := open(t, often(), l).BackupTree(t.Context(), k.dir, k.image, parent.ID, func(s snapshot.Stats) { last = s })
	must(t, err)
	if small := last.Read - left; small < killedSize || small > killedFiles*killedSize/2 || last.Done != last.Total {
		t.Errorf("run again it read %d KiB of %d: %+v", small>>10, killedFiles*killedSize>>10, last)
	}
	if n := len(k.checkpoints()); n > 0 {
		t.Errorf("%d checkpoints are left of what is complete", n)
	}
	back := t.TempDir()
	_, err = k.watcher.RestoreTree(t.Context(), image.ID, back, nil)
	must(t, err)
	if differs, _, err := k.watcher.CompareTree(t.Context(), image.ID, k.dir, nil); err != nil || differs != "" {
		t.Errorf("the image differs from the tree: %s (%v)", differs, err)
	}
	got, err := os.ReadFile(filepath.Join(back, "folder0", "file00"))
	if err != nil || !bytes.Equal(got, changed) {
		t.Errorf("what changed came back as it was (%v)", err)
	}
	large, err := os.ReadFile(filepath.Join(back, "large"))
	if err != nil || len(large) != left || !bytes.HasPrefix(large, []byte("begins")) || len(bytes.Trim(large[6:], "\x00")) > 0 {
		t.Errorf("the large file came back different (%v)", err)
	}
}

// TestTreeGoesByCheckpointsThatStand has what a run went on from removed meanwhile.
func TestTreeGoesByCheckpointsThatStand(t *testing.T) {
	t.Parallel()
	l := folder(t)
	k := newKilledTree(t, l)
	k.addLarge()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := open(t, often(), l).BackupTree(ctx, k.dir, k.image, "", k.late(func() {
		k.awaitCheckpoints()
		cancel()
	}))
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	_, err = open(t, New(), l).BackupTree(t.Context(), k.dir, k.image, "", k.late(func() {
		err := repo.WriteSession(t.Context(), k.watcher.rep, repo.WriteSessionOptions{}, func(ctx context.Context, w repo.RepositoryWriter) error {
			return w.DeleteManifest(ctx, k.checkpoints()[0].ID)
		})
		if err != nil {
			t.Error(err)
		}
	}))
	if err == nil || !strings.Contains(err.Error(), "was removed meanwhile") {
		t.Errorf("with its checkpoint gone it says %v", err)
	}
	if _, err := open(t, New(), l).BackupTree(t.Context(), k.dir, k.image, "", nil); err != nil {
		t.Errorf("started again: %v", err)
	}
}

// TestTreeSaysWhyNoCheckpoint has the storage fail while checkpoints are made.
func TestTreeSaysWhyNoCheckpoint(t *testing.T) {
	t.Parallel()
	l := folder(t)
	k := newKilledTree(t, l)
	k.addLarge()
	left := &atomic.Int64{}
	left.Store(1 << 20)
	o := often()
	o.wrap = func(st blob.Storage) blob.Storage { return dyingStorage{st, left} }
	_, err := open(t, o, l).BackupTree(t.Context(), k.dir, k.image, "", k.late(func() {
		left.Store(0)
	}))
	if !errors.Is(err, snapshottest.ErrInjected) {
		t.Errorf("a storage that fails gives %v", err)
	}
}

// TestKnownFiles sees that a file is read where any tree that kopia may take it from has it
// by the same size and time, and not the same.
func TestKnownFiles(t *testing.T) {
	now := seen{5, stamp{Seconds: 100}, stamp{Seconds: 200}}
	n := &node{record: record{Path: "a", Type: typeFile, Size: now.size, Modified: now.modified, Changed: now.changed}}
	timeSetBack, older, other := now, now, now
	timeSetBack.changed.Seconds--
	older.modified.Seconds--
	other.size++
	for name, c := range map[string]struct {
		known []seen
		want  bool
	}{
		"nothing":                    {nil, false},
		"the same":                   {[]seen{now}, true},
		"time set back":              {[]seen{timeSetBack}, false},
		"the same and time set back": {[]seen{now, timeSetBack}, false},
		"time set back and the same": {[]seen{timeSetBack, now}, false},
		"the same and an older":      {[]seen{now, older}, true},
		"another size and the same":  {[]seen{other, now}, true},
		"older alone":                {[]seen{older}, false},
	} {
		if got := isKnown(n, c.known); got != c.want {
			t.Errorf("%s: known is %t", name, got)
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
		records := newRecordReader(bytes.NewReader(data))
		for i := 0; ; i++ {
			e, err := records.next()
			if err != nil {
				return
			}
			if clean := filepath.Join("/volume", string(e.Path)); clean != "/volume" && !strings.HasPrefix(clean, "/volume/") {
				t.Fatalf("path %q leaves the volume", e.Path)
			}
			if e.Link != "" && !inside(e.Link) {
				t.Fatalf("link %q leaves the volume", e.Link)
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

// TestTreeSessionEnds sees that what made a checkpoint fail is kept for who ends the
// session, and that nothing reaches it after that.
func TestTreeSessionEnds(t *testing.T) {
	listed := 0
	s := &treeSession{list: func(context.Context, *kopia.DirEntry) (manifest.ID, error) {
		listed++
		return "", snapshottest.ErrInjected
	}}
	point := &kopia.Manifest{RootEntry: &kopia.DirEntry{}}
	if _, err := s.PutManifest(t.Context(), nil, point); !errors.Is(err, snapshottest.ErrInjected) {
		t.Errorf("a checkpoint that fails gives %v", err)
	}
	if err := s.end(); !errors.Is(err, snapshottest.ErrInjected) {
		t.Errorf("at the end it is told as %v", err)
	}
	if _, err := s.PutManifest(t.Context(), nil, point); !errors.Is(err, errTreeEnded) || listed != 1 {
		t.Errorf("after the end: %v, listed %d times", err, listed)
	}
}
