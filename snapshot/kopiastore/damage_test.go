package kopiastore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

func noise(size int, seed byte) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func backup(t *testing.T, s snapshot.Store, data []byte, change func(*snapshot.BackupRequest)) (snapshot.Image, snapshot.Stats, error) {
	t.Helper()
	r := snapshot.BackupRequest{
		Source: snapshottest.NewDevice(data),
		Image:  snapshot.Image{Volume: snapshot.Volume{Cluster: "c1", Namespace: "ns", Name: "v"}, Round: "r1", Method: snapshot.MethodScan},
	}
	if change != nil {
		change(&r)
	}
	return snapshot.Backup(t.Context(), r, s)
}

// TestFlippedByte changes one byte of a pack at a time: a restore must say
// so, naming chunk and blob, and never write it.
func TestFlippedByte(t *testing.T) {
	l := folder(t)
	data := noise(3<<20, 1)
	image, _, err := backup(t, open(t, New(), l), data, nil)
	if err != nil {
		t.Fatal(err)
	}
	packs := packsOf(t, l.Path)
	rnd := rand.New(rand.NewPCG(1, 2))
	found := 0
	for range 8 {
		pack := packs[rnd.IntN(len(packs))]
		whole, err := os.ReadFile(pack)
		if err != nil {
			t.Fatal(err)
		}
		broken := bytes.Clone(whole)
		broken[rnd.IntN(len(broken)-200)] ^= 1 << rnd.IntN(8)
		if err := os.WriteFile(pack, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		own := l
		own.CacheDir = ""
		r := open(t, New(), own)
		sink := snapshottest.NewDevice(make([]byte, len(data)))
		_, err = snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: image.ID}, r)
		switch {
		case err == nil && bytes.Equal(sink.Bytes(), data): // it hit what is no chunk
		case errors.Is(err, snapshot.ErrCorrupt):
			found++
			if !strings.Contains(err.Error(), "chunk at ") || !strings.Contains(err.Error(), "in blob p") {
				t.Errorf("the error does not name chunk and blob: %v", err)
			}
		default:
			t.Fatalf("a flipped byte gave %v", err)
		}
		if err := os.WriteFile(pack, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if found == 0 {
		t.Error("no flipped byte was found")
	}
	t.Logf("%d of 8 flipped bytes were in chunks, and found", found)
	for _, pack := range packs {
		if err := os.Remove(pack); err != nil {
			t.Fatal(err)
		}
	}
	own := l
	own.CacheDir = ""
	r, err := New().Open(t.Context(), own, false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close(context.WithoutCancel(t.Context())) }()
	_, err = snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: snapshottest.NewDevice(make([]byte, len(data))), To: image.ID}, r)
	if !errors.Is(err, snapshot.ErrCorrupt) {
		t.Errorf("packs that are gone: %v", err)
	}
}

// dyingStorage writes nothing from the nth blob on, as if the process were killed.
type dyingStorage struct {
	blob.Storage
	left *atomic.Int64
}

func (d dyingStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, o blob.PutOptions) error {
	if d.left.Add(-1) < 0 {
		return snapshottest.ErrInjected
	}
	return d.Storage.PutBlob(ctx, id, data, o)
}

// TestKilledAtAnyBlob kills a backup at each of its writes and runs it again.
func TestKilledAtAnyBlob(t *testing.T) {
	t.Parallel()
	data := noise(25<<20, 2)
	for n := int64(0); ; n++ {
		l := folder(t)
		if err := justOpen(t.Context(), New(), l); err != nil {
			t.Fatal(err)
		}
		left := &atomic.Int64{}
		left.Store(n)
		killer := New()
		killer.wrap = func(st blob.Storage) blob.Storage { return dyingStorage{st, left} }
		_, _, killed := backup(t, open(t, killer, l), data, nil)
		r := open(t, New(), l)
		images, err := r.Images(t.Context(), snapshot.Volume{Cluster: "c1", Namespace: "ns", Name: "v"})
		if err != nil {
			t.Fatal(err)
		}
		if killed == nil {
			if n < 5 || len(images) != 1 {
				t.Errorf("it took %d blobs and listed %d images", n, len(images))
			}
			return
		}
		if len(images) > 0 {
			t.Fatalf("killed at blob %d (%v), and an image is listed", n, killed)
		}
		image, _, err := backup(t, r, data, nil)
		if err != nil {
			t.Fatal(err)
		}
		sink := snapshottest.NewDevice(make([]byte, len(data)))
		if _, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: image.ID}, r); err != nil || !bytes.Equal(sink.Bytes(), data) {
			t.Fatalf("killed at blob %d, run again, restored: %v", n, err)
		}
	}
}

// slowSource cancels the backup after so many bytes.
type slowSource struct {
	*snapshottest.Device
	left   atomic.Int64
	cancel func()
}

func (s *slowSource) ReadAt(p []byte, at int64) (int, error) {
	if s.left.Add(-int64(len(p))) < 0 {
		s.cancel()
	}
	return s.Device.ReadAt(p, at)
}

// TestRunAgainSendsTheRest shows that what was flushed is not sent twice.
func TestRunAgainSendsTheRest(t *testing.T) {
	t.Parallel()
	// A clock that stands still leaves only the rule that goes by bytes, however
	// slow the machine is.
	opener, still := New(), time.Now()
	opener.flushBytes = 100 << 20
	opener.now = func() time.Time { return still }
	r := open(t, opener, folder(t))
	data := noise(170<<20, 3)
	ctx, cancel := context.WithCancel(t.Context())
	source := &slowSource{Device: snapshottest.NewDevice(data), cancel: cancel}
	source.left.Store(160 << 20)
	request := snapshot.BackupRequest{Source: source, Image: snapshot.Image{Volume: snapshot.Volume{Cluster: "c1", Namespace: "ns", Name: "v"}, Method: snapshot.MethodScan}}
	if _, _, err := snapshot.Backup(ctx, request, r); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	_, stats, err := backup(t, r, data, nil)
	if err != nil || stats.Uploaded > 80<<20 {
		t.Errorf("run again it sent %d MiB of %d: %v", stats.Uploaded>>20, len(data)>>20, err)
	}
	t.Logf("cut short at 160 MiB, run again: sent %d MiB", stats.Uploaded>>20)
}

// TestRewriteMends stores a volume again whose chunks, and the index over them, are
// damaged or gone: a plain full copy is no better than the image before it.
func TestRewriteMends(t *testing.T) {
	l := folder(t)
	data := append(noise(24<<20, 7), make([]byte, 4<<20)...)
	first, _, err := backup(t, open(t, eager(), l), data, nil)
	if err != nil {
		t.Fatal(err)
	}
	packs := packsOf(t, l.Path)
	for i, pack := range packs {
		if i > 0 {
			whole, err := os.ReadFile(pack)
			if err != nil {
				t.Fatal(err)
			}
			for at := 0; at < len(whole); at += 64 << 10 {
				whole[at] ^= 1
			}
			err = os.WriteFile(pack, whole, 0o600)
			if err != nil {
				t.Fatal(err)
			}
		} else if err := os.Remove(pack); err != nil {
			t.Fatal(err)
		}
	}
	own := l
	own.CacheDir = t.TempDir()
	r := open(t, eager(), own)
	restore := func(id snapshot.ImageID) error {
		_, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: snapshottest.NewDevice(make([]byte, len(data))), To: id}, r)
		return err
	}
	plain, stats, err := backup(t, r, data, nil)
	if err != nil || stats.Uploaded > 1<<20 {
		t.Fatalf("a plain copy sent %d bytes: %v", stats.Uploaded, err)
	}
	if err := restore(plain.ID); !errors.Is(err, snapshot.ErrCorrupt) || !strings.Contains(err.Error(), "volume backup --rewrite") {
		t.Fatalf("a plain copy: %v", err)
	}
	again := func(b *snapshot.BackupRequest) { b.Rewrite = true }
	mended, stats, err := backup(t, r, data, again)
	if err != nil || stats.Uploaded < 24<<20 || stats.Uploaded > 26<<20 {
		t.Fatalf("%d bytes were sent: %v", stats.Uploaded, err)
	}
	for _, id := range []snapshot.ImageID{first.ID, plain.ID, mended.ID} {
		holds(t, r, id, data)
	}
	if done, err := r.Maintain(t.Context(), snapshot.MaintainRequest{Full: true}); err != nil {
		t.Errorf("%+v: %v", done, err)
	}
	holds(t, r, first.ID, data)
	if _, _, err := backup(t, r, data, func(b *snapshot.BackupRequest) { b.Rewrite, b.Parent = true, mended.ID }); err == nil {
		t.Error("it was stored again, and compared with a parent")
	}
}

// TestRewriteMendsIndexes damages what says which chunks a volume has, at each level.
func TestRewriteMendsIndexes(t *testing.T) {
	l := folder(t)
	data := noise(3<<20, 7)
	r := open(t, eager(), l)
	first, _, err := backup(t, r, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.listed(t.Context(), first.ID, kindImage)
	if err != nil {
		t.Fatal(err)
	}
	_, files, err := r.record(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	indexes := []object.ID{files[volumeName].ObjectID}
	image, err := r.openListed(t.Context(), first.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range image.root {
		indexes = append(indexes, e.Object)
	}
	for _, index := range indexes {
		spoil(t, r, l.Path, index)
	}
	own := l
	own.CacheDir = t.TempDir()
	r = open(t, eager(), own)
	sink := snapshottest.NewDevice(make([]byte, len(data)))
	if _, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: first.ID}, r); !errors.Is(err, snapshot.ErrCorrupt) {
		t.Fatalf("what is damaged: %v", err)
	}
	again := func(b *snapshot.BackupRequest) { b.Rewrite = true }
	mended, stats, err := backup(t, r, data, again)
	if err != nil || stats.Uploaded < 3<<20 {
		t.Fatalf("%d bytes were sent: %v", stats.Uploaded, err)
	}
	for _, id := range []snapshot.ImageID{first.ID, mended.ID} {
		holds(t, r, id, data)
	}
}

// TestRewriteGoesByNoClock mends what bears a time to come, as what a client whose clock is
// ahead has stored.
func TestRewriteGoesByNoClock(t *testing.T) {
	l, data := folder(t), noise(100<<10, 7)
	r := open(t, eager(), l)
	image, _, err := backup(t, r, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.listed(t.Context(), image.ID, kindImage)
	if err != nil {
		t.Fatal(err)
	}
	_, files, err := r.record(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	contents, err := r.rep.VerifyObject(t.Context(), files[volumeName].ObjectID)
	if err != nil {
		t.Fatal(err)
	}
	_, w, err := r.rep.NewDirectWriter(t.Context(), repo.WriteSessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// Each of the two is later than what was there by a second at least.
	for range 30 {
		for _, id := range contents {
			err = errors.Join(err, w.ContentManager().DeleteContent(t.Context(), id))
		}
		err = errors.Join(err, w.Flush(t.Context()))
		for _, id := range contents {
			err = errors.Join(err, w.ContentManager().UndeleteContent(t.Context(), id))
		}
		err = errors.Join(err, w.Flush(t.Context()))
	}
	if err := errors.Join(err, w.Close(t.Context()), r.refresh(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, id := range contents {
		if info, err := r.rep.ContentInfo(t.Context(), id); err != nil || time.Until(info.Timestamp()) < 30*time.Second {
			t.Fatalf("it bears %s: %v", info.Timestamp(), err)
		}
		spoilContent(t, r, l.Path, id)
	}
	l.CacheDir = t.TempDir()
	r = open(t, eager(), l)
	if _, _, err := backup(t, r, data, func(b *snapshot.BackupRequest) { b.Rewrite = true }); err != nil {
		t.Fatal(err)
	}
	holds(t, r, image.ID, data)
}

// TestRewriteMendsLargeIndexes has one that is cut into parts, as that of a volume of more
// than 13 TiB is.
func TestRewriteMendsLargeIndexes(t *testing.T) {
	const n = 100_000
	l := folder(t)
	write := func(rewrite bool) (*Repository, object.ID) {
		own := l
		own.CacheDir = t.TempDir()
		r := open(t, eager(), own)
		begun, err := r.Begin(t.Context(), snapshot.Image{Volume: snapshot.Volume{Cluster: "c1", Namespace: "ns", Name: "v"}, Size: 1 << 20}, "")
		if err != nil {
			t.Fatal(err)
		}
		w := begun.(*writer)
		if rewrite {
			w.Rewrite()
		}
		leaf, err := w.leaf(t.Context(), []byte{7})
		if err != nil {
			t.Fatal(err)
		}
		entries := make([]object.IndirectObjectEntry, n)
		for i := range entries {
			entries[i] = object.IndirectObjectEntry{Start: int64(i), Length: 1, Object: leaf}
		}
		id, err := w.writeIndex(t.Context(), entries)
		if err := errors.Join(err, w.session.Flush(t.Context()), w.Abort(t.Context()), r.refresh(t.Context())); err != nil {
			t.Fatal(err)
		}
		return r, id
	}
	r, id := write(false)
	spoil(t, r, l.Path, id)
	r, _ = write(false)
	if _, err := r.readIndirect(t.Context(), id, n); err == nil {
		t.Fatal("it is not damaged")
	}
	r, _ = write(true)
	if _, err := r.readIndirect(t.Context(), id, n); err != nil {
		t.Error(err)
	}
}

// spoil flips a byte of each content that an index has, where the folder has it.
func spoil(t *testing.T, r *Repository, root string, index object.ID) {
	t.Helper()
	of, ok := index.IndexObjectID()
	if !ok {
		t.Fatalf("%s is no index", index)
	}
	contents, err := r.rep.VerifyObject(t.Context(), of)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range contents {
		spoilContent(t, r, root, id)
	}
}

func spoilContent(t *testing.T, r *Repository, root string, id content.ID) {
	t.Helper()
	info, err := r.rep.ContentInfo(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, path)
		if err != nil || d.IsDir() || strings.TrimSuffix(strings.ReplaceAll(rel, "/", ""), ".f") != string(info.PackBlobID) {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[info.PackOffset+info.PackedLength/2] ^= 1
		return os.WriteFile(path, data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// packsOf are the files of a folder that hold chunks.
func packsOf(t *testing.T, root string) (packs []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(root, path); err == nil && !d.IsDir() && strings.HasPrefix(rel, "p") {
			packs = append(packs, path)
		}
		return err
	})
	if err != nil || len(packs) == 0 {
		t.Fatalf("packs %v: %v", packs, err)
	}
	return packs
}

// TestOneBadAnswerIsAskedAgain has the storage change what it gives of chunks, once and
// then all the time.
func TestOneBadAnswerIsAskedAgain(t *testing.T) {
	lies := &atomic.Int64{}
	o := New()
	o.wrap = func(st blob.Storage) blob.Storage { return lyingStorage{st, lies} }
	r := open(t, o, folder(t))
	data := noise(12<<20, 8)
	image, _, err := backup(t, r, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	lies.Store(1)
	holds(t, r, image.ID, data)
	if lies.Load() > 0 {
		t.Error("the storage was not asked for chunks")
	}
	lies.Store(1 << 20)
	sink := snapshottest.NewDevice(make([]byte, len(data)))
	_, err = snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: image.ID}, r)
	if !errors.Is(err, snapshot.ErrCorrupt) {
		t.Fatalf("%v", err)
	}
	for _, part := range []string{"chunk at ", "of volume c1/ns/v", string(image.ID), "content ", "in blob p"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not tell %q: %v", part, err)
		}
	}
}
