package snapshottest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godwit-io/godwit/snapshot"
)

// TestStore is the contract of a snapshot.Store. Each call of open gives an
// empty one.
func TestStore(t *testing.T, open func(*testing.T) snapshot.Store) {
	t.Helper()
	t.Run("roundtrip", func(t *testing.T) { testRoundtrip(t, open(t)) })
	t.Run("missing", func(t *testing.T) { testMissing(t, open(t)) })
	t.Run("sizes", func(t *testing.T) { testSizes(t, open(t)) })
	t.Run("cancelled", func(t *testing.T) { testCancelled(t, open(t)) })
	t.Run("sparse", func(t *testing.T) { testSparse(t, open(t)) })
	t.Run("same", func(t *testing.T) { testSame(t, open(t)) })
	t.Run("parentGone", func(t *testing.T) { testParentGone(t, open(t)) })
	t.Run("resume", func(t *testing.T) { testResume(t, open) })
	t.Run("otherMoment", func(t *testing.T) { testOtherMoment(t, open) })
	t.Run("resumedDelta", func(t *testing.T) { testResumedDelta(t, open(t)) })
	t.Run("liar", func(t *testing.T) { testLiar(t, open(t)) })
	t.Run("verify", func(t *testing.T) { testVerify(t, open(t)) })
	t.Run("faults", func(t *testing.T) { testFaults(t, open(t)) })
}

func testVolume(name string) snapshot.Volume {
	return snapshot.Volume{Cluster: "c1", Namespace: "ns", Name: name}
}

func scan(data []byte, name string) snapshot.BackupRequest {
	return snapshot.BackupRequest{
		Source: NewDevice(data),
		Image: snapshot.Image{
			Volume: testVolume(name), Round: "r1", Taken: time.Unix(1700000000, 0).UTC(), Filesystem: "ext4",
			Method: snapshot.MethodScan, ChunkSize: testChunk,
		},
	}
}

func noise(size int, seed uint64) []byte {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

func mustBackup(t *testing.T, r snapshot.BackupRequest, s snapshot.Store) (snapshot.Image, snapshot.Stats) {
	t.Helper()
	image, stats, err := snapshot.Backup(t.Context(), r, s)
	if err != nil {
		t.Fatal(err)
	}
	return image, stats
}

func testRoundtrip(t *testing.T, s snapshot.Store) {
	data := noise(2<<20+123, 1)
	var told snapshot.Stats
	r := scan(data, "v")
	r.Progress = func(s snapshot.Stats) { told = s }
	image, stats := mustBackup(t, r, s)
	if told != stats && told.Done != stats.Done {
		t.Errorf("progress ended at %+v, stats are %+v", told, stats)
	}
	if stats.Changed != int64(len(data)) || stats.Uploaded == 0 {
		t.Errorf("stats of a first full backup are %+v", stats)
	}
	want := r.Image
	want.ID, want.Kind, want.Size = image.ID, snapshot.Block, int64(len(data))
	got, err := s.Image(t.Context(), image.ID)
	if err != nil || got != want || image != want {
		t.Fatalf("image is %+v (%v), want %+v", got, err, want)
	}
	sink := NewDevice(bytes.Repeat([]byte{0xff}, len(data)))
	applied, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: image.ID, Verify: snapshot.VerifyReadBack}, s)
	if err != nil || !bytes.Equal(sink.Bytes(), data) {
		t.Fatalf("restored bytes differ (%v)", err)
	}
	if applied.Written != int64(len(data)) || applied.Done != applied.Total || applied.Fetched == 0 || applied.Read != applied.Written {
		t.Errorf("stats of a full apply are %+v", applied)
	}
	again, stats := mustBackup(t, scan(data, "v"), s)
	if stats.Uploaded > int64(len(data))/4 {
		t.Errorf("the same bytes were uploaded again: %+v", stats)
	}
	applied, err = snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: again.ID, From: image.ID}, s)
	if err != nil || applied.Written != 0 || applied.Total != 0 {
		t.Errorf("applying an equal image: %+v, %v", applied, err)
	}
}

func testMissing(t *testing.T, s snapshot.Store) {
	ctx := t.Context()
	image, _ := mustBackup(t, scan(noise(100<<10, 1), "v"), s)
	if images, err := s.Images(ctx, testVolume("other")); err != nil || len(images) != 0 {
		t.Errorf("images of an unknown volume: %v, %v", images, err)
	}
	if all, err := s.Images(ctx, snapshot.Volume{}); err != nil || !slices.Contains(all, image) {
		t.Errorf("images of all volumes lack %v: %v, %v", image, all, err)
	}
	if err := s.Forget(ctx, image.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.Forget(ctx, image.ID); err != nil {
		t.Errorf("forgetting twice: %v", err)
	}
	if images, err := s.Images(ctx, image.Volume); err != nil || len(images) != 0 {
		t.Errorf("a forgotten image is listed: %v, %v", images, err)
	}
	for _, id := range []snapshot.ImageID{image.ID, "", "nonsense", "ffffffffffffffffffffffffffffffff"} {
		if _, err := s.Image(ctx, id); !errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("image %q: %v", id, err)
		}
		if _, err := s.Open(ctx, id); !errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("open %q: %v", id, err)
		}
	}
	r := scan(noise(100<<10, 1), "v")
	r.Parent, r.Image.Method, r.Extents = image.ID, snapshot.MethodDelta, []snapshot.Extent{}
	if _, _, err := snapshot.Backup(ctx, r, s); !errors.Is(err, snapshot.ErrNoBase) {
		t.Errorf("delta from a forgotten base: %v", err)
	}
	other, _ := mustBackup(t, scan(noise(100<<10, 1), "v"), s)
	_, err := snapshot.Apply(ctx, snapshot.ApplyRequest{Sink: NewDevice(make([]byte, 1<<20)), To: other.ID, From: image.ID}, s)
	if !errors.Is(err, snapshot.ErrNoBase) {
		t.Errorf("apply from a forgotten base: %v", err)
	}
}

func testSizes(t *testing.T, s snapshot.Store) {
	data := noise(70<<10+1, 3)
	image, _ := mustBackup(t, scan(data, "v"), s)
	_, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: NewDevice(make([]byte, 70<<10)), To: image.ID}, s)
	if err == nil || !strings.Contains(err.Error(), "71680") || !strings.Contains(err.Error(), "71681") {
		t.Errorf("a sink too small: %v", err)
	}
	for _, size := range []int{1, 511, testChunk, testChunk + 1, 600 * testChunk} {
		data := noise(size, 4)
		image, _ := mustBackup(t, scan(data, "sizes"), s)
		sink := NewDevice(bytes.Repeat([]byte{1}, size+5))
		if _, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: image.ID}, s); err != nil {
			t.Fatal(err)
		}
		if got := sink.Bytes(); !bytes.Equal(got[:size], data) || !bytes.Equal(got[size:], make([]byte, 5)) {
			t.Errorf("%d bytes came back different", size)
		}
	}
	if _, _, err := snapshot.Backup(t.Context(), scan(nil, "empty"), s); err == nil {
		t.Error("an empty device was backed up")
	}
}

func testCancelled(t *testing.T, s snapshot.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	r := scan(noise(1<<20, 5), "v")
	r.Progress = func(snapshot.Stats) {}
	cancel()
	if _, _, err := snapshot.Backup(ctx, r, s); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled backup: %v", err)
	}
	images, err := s.Images(t.Context(), r.Image.Volume)
	if err != nil || len(images) != 0 {
		t.Errorf("a cancelled backup is listed: %v, %v", images, err)
	}
}

func testSparse(t *testing.T, s snapshot.Store) {
	data := make([]byte, 8<<20)
	copy(data[5<<20:], "here")
	r := scan(data, "v")
	r.Image.Method, r.Extents = snapshot.MethodAllocated, []snapshot.Extent{{Offset: 5<<20 + 1, Length: 2}}
	image, stats := mustBackup(t, r, s)
	if stats.Read != testChunk || stats.Changed != testChunk {
		t.Errorf("stats of a sparse backup are %+v", stats)
	}
	sink := NewDevice(bytes.Repeat([]byte{7}, len(data)))
	applied, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: image.ID, Verify: snapshot.VerifyReadBack}, s)
	if err != nil || !bytes.Equal(sink.Bytes(), data) || applied.Written != testChunk {
		t.Errorf("sparse restore: %+v, %v", applied, err)
	}
}

func testSame(t *testing.T, s snapshot.Store) {
	data := noise(3<<20, 7)
	first, _ := mustBackup(t, scan(data, "v"), s)
	r := scan(data, "v")
	r.Parent, r.Image.Round, r.Image.Method, r.Extents = first.ID, "r2", snapshot.MethodDelta, []snapshot.Extent{}
	kept, stats := mustBackup(t, r, s)
	if stats.Read != 0 || kept.ID == first.ID {
		t.Errorf("a round in which nothing changed is image %s after %s, of %+v", kept.ID, first.ID, stats)
	}
	data[2<<20]++
	changed, _ := mustBackup(t, scan(data, "v"), s)
	longer, _ := mustBackup(t, scan(append(data, make([]byte, testChunk)...), "v"), s)
	for _, c := range []struct {
		with snapshot.ImageID
		same bool
	}{{first.ID, true}, {kept.ID, true}, {changed.ID, false}, {longer.ID, false}, {"0123456789abcdef0123456789abcdef", false}} {
		if same, err := snapshot.Same(t.Context(), s, first.ID, c.with); err != nil || same != c.same {
			t.Errorf("%s is the same as %s: %v, %v", c.with, first.ID, same, err)
		}
	}
	if same, err := snapshot.Same(t.Context(), s, changed.ID, longer.ID); err != nil || same {
		t.Errorf("an image that is longer by a chunk of zeros is the same: %v", err)
	}
}

func testParentGone(t *testing.T, s snapshot.Store) {
	data := noise(64<<10, 6)
	base, _ := mustBackup(t, scan(data, "v"), s)
	w, err := s.Begin(t.Context(), snapshot.Image{Volume: testVolume("v"), Kind: snapshot.Block, Size: 64 << 10, ChunkSize: testChunk}, base.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Keep(t.Context(), snapshot.Extent{Length: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	if err := s.Forget(t.Context(), base.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Commit(t.Context()); !errors.Is(err, snapshot.ErrNoBase) {
		t.Errorf("commit after the base went: %v", err)
	}
	if err := w.Abort(t.Context()); err != nil {
		t.Error(err)
	}
}

// liar loses everything past the first chunk.
type liar struct{ *Device }

func (l liar) WriteAt(p []byte, offset int64) (int, error) {
	if offset < testChunk {
		if _, err := l.Device.WriteAt(p[:min(len(p), testChunk)], offset); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func testLiar(t *testing.T, s snapshot.Store) {
	data := noise(64<<10, 8)
	image, _ := mustBackup(t, scan(data, "v"), s)
	for _, mode := range []snapshot.VerifyMode{snapshot.VerifyReadBack, snapshot.VerifySample, snapshot.VerifyFull} {
		sink := liar{NewDevice(make([]byte, len(data)))}
		_, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: image.ID, Verify: mode}, s)
		if !errors.Is(err, snapshot.ErrCorrupt) || !strings.Contains(err.Error(), image.Volume.String()) {
			t.Errorf("a device that loses writes, mode %d: %v", mode, err)
		}
	}
}

// StoreRounds is what the contract of Rounds needs: rounds refer to images.
type StoreRounds interface {
	snapshot.Store
	snapshot.Rounds
}

// TestRounds is the contract of snapshot.Rounds.
func TestRounds(t *testing.T, r StoreRounds) {
	t.Helper()
	ctx := t.Context()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	image, _ := mustBackup(t, scan(noise(10<<10, 1), "v"), r)
	seal := func(round string, at int64, objects string, images ...snapshot.Image) error {
		p := snapshot.RecoveryPoint{App: "ns/app", Round: round, Cluster: "c1", Epoch: 1, Sealed: time.Unix(at, 0).UTC(), Images: images}
		s, err := snapshot.Seal(p, []byte(objects), private)
		if err != nil {
			t.Fatal(err)
		}
		return r.Seal(ctx, s)
	}
	for _, err := range []error{seal("r1", 1, "one", image), seal("r2", 2, ""), seal("r1", 1, "one", image)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := seal("r1", 9, "other"); err == nil {
		t.Error("a round was sealed twice with other content")
	}
	if err := seal("r3", 3, "", snapshot.Image{ID: "ffffffffffffffffffffffffffffffff"}); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("sealing over a missing image: %v", err)
	}
	one, err := r.Sealed(ctx, "ns/app", "r1")
	if err != nil {
		t.Fatal(err)
	}
	if p, err := one.Read(snapshot.SealingKey(public)); err != nil || p.Images[0] != image || string(one.Objects) != "one" {
		t.Errorf("round came back as %+v (%v)", p, err)
	}
	if two, err := r.Sealed(ctx, "ns/app", "r2"); err != nil || two.Objects == nil {
		t.Errorf("a round without objects: %+v, %v", two, err)
	}
	if _, err := r.Sealed(ctx, "ns/app", "none"); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("a round that is not there: %v", err)
	}
	rounds, err := r.Recoverable(ctx, "ns/app")
	if err != nil || len(rounds) != 2 {
		t.Fatalf("%d rounds listed: %v", len(rounds), err)
	}
	for i, want := range []string{"r2", "r1"} {
		if p, err := rounds[i].Read(snapshot.SealingKey(public)); err != nil || p.Round != want || rounds[i].Objects != nil {
			t.Errorf("round %d listed is %+v (%v), want %s", i, p, err, want)
		}
	}
	if other, err := r.Recoverable(ctx, "ns/other"); err != nil || len(other) != 0 {
		t.Errorf("rounds of another app: %v, %v", other, err)
	}
	forgetRound(t, r, public)
}

// forgetRound removes one of two rounds, and leaves its images alone.
func forgetRound(t *testing.T, r StoreRounds, public ed25519.PublicKey) {
	t.Helper()
	ctx := t.Context()
	if all, err := r.Recoverable(ctx, ""); err != nil || len(all) != 2 {
		t.Fatalf("%d rounds of all applications: %v", len(all), err)
	}
	one, err := r.Sealed(ctx, "ns/app", "r1")
	if err != nil {
		t.Fatal(err)
	}
	p, err := one.Read(snapshot.SealingKey(public))
	if err != nil {
		t.Fatal(err)
	}
	other := p
	other.Cluster = "another"
	for _, forget := range []snapshot.RecoveryPoint{other, p, p} {
		if err := r.ForgetRound(ctx, forget); err != nil {
			t.Fatal(err)
		}
		if forget.Cluster == other.Cluster {
			if _, err := r.Sealed(ctx, "ns/app", "r1"); err != nil {
				t.Errorf("a round went with another cluster's: %v", err)
			}
		}
	}
	if _, err := r.Sealed(ctx, "ns/app", "r1"); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("a forgotten round: %v", err)
	}
	if _, err := r.Image(ctx, p.Images[0].ID); err != nil {
		t.Errorf("an image went with its round: %v", err)
	}
	if left, err := r.Recoverable(ctx, "ns/app"); err != nil || len(left) != 1 {
		t.Errorf("%d rounds are left: %v", len(left), err)
	}
}
