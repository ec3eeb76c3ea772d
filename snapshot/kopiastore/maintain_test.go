package kopiastore

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/maintenance"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// eager is an Opener that neither waits nor spares what is young.
func eager() *Opener {
	o := New()
	o.settle, o.safety = time.Millisecond, maintenance.SafetyNone
	return o
}

func holds(t *testing.T, r *Repository, id snapshot.ImageID, want []byte) {
	t.Helper()
	sink := snapshottest.NewDevice(make([]byte, len(want)))
	if _, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: id}, r); err != nil || !bytes.Equal(sink.Bytes(), want) {
		t.Errorf("image %s holds other bytes (%v)", id, err)
	}
}

// TestMaintain collects what no image and no checkpoint needs, and only that.
func TestMaintain(t *testing.T) {
	l := folder(t)
	r := open(t, eager(), l)
	one, two := noise(30<<20, 1), noise(30<<20, 2)
	first, _, err := backup(t, r, one, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := backup(t, r, two, nil)
	if err != nil {
		t.Fatal(err)
	}
	three := noise(30<<20, 3)
	cut := func(read *int64) func(*snapshot.BackupRequest) {
		return func(b *snapshot.BackupRequest) {
			b.Moment, b.Workers, b.CheckpointEvery.Bytes = "one", 1, 2<<20
			b.Image.Volume.Name = "third"
			source := &snapshottest.CountedSource{Source: b.Source}
			if read == nil {
				source.Dead = &snapshottest.Countdown{N: 20}
			} else {
				t.Cleanup(func() { *read = source.Read.Total() })
			}
			b.Source = source
		}
	}
	if _, _, err := backup(t, r, three, cut(nil)); err == nil {
		t.Fatal("it lived")
	}
	if err := r.Forget(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	before := sent(t, l.Path)
	done, err := r.Maintain(t.Context(), snapshot.MaintainRequest{Full: true})
	if err != nil || done.Mode != snapshot.MaintenanceFull || done.Swept != 0 {
		t.Fatalf("%+v: %v", done, err)
	}
	// The pack that was not full went with others into a new one. Kopia counts in seconds,
	// and drops nothing in the one in which it was found unneeded.
	after := sent(t, l.Path)
	for deadline := time.Now().Add(time.Minute); after > before-15<<20; after = sent(t, l.Path) {
		if time.Now().After(deadline) {
			t.Fatalf("%d MiB were stored before, %d after", before>>20, after>>20)
		}
		if _, err := r.Maintain(t.Context(), snapshot.MaintainRequest{Full: true}); err != nil {
			t.Fatal(err)
		}
	}
	holds(t, r, second.ID, two)
	third, stats, err := backup(t, r, three, func(b *snapshot.BackupRequest) { cut(new(int64))(b) })
	if err != nil || stats.Read > 16<<20 {
		t.Errorf("after the collection %d MiB were read again: %v", stats.Read>>20, err)
	}
	holds(t, r, third.ID, three)
	if done, err = r.Maintain(t.Context(), snapshot.MaintainRequest{}); err != nil || done.Mode != snapshot.MaintenanceNone {
		t.Errorf("right after a full run: %+v, %v", done, err)
	}
}

// TestOneOwner shows that of two clients one maintains, until it is replaced.
func TestOneOwner(t *testing.T) {
	l := folder(t)
	other := l
	other.Host, other.CacheDir = "node2", t.TempDir()
	a, b := open(t, eager(), l), open(t, eager(), other)
	if _, err := a.Maintain(t.Context(), snapshot.MaintainRequest{Full: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Maintain(t.Context(), snapshot.MaintainRequest{Full: true}); !errors.Is(err, snapshot.ErrNotOwner) || !strings.Contains(err.Error(), "tester@node1") {
		t.Errorf("the second: %v", err)
	}
	if _, err := b.Maintain(t.Context(), snapshot.MaintainRequest{TakeOver: true, Full: true}); err != nil {
		t.Error(err)
	}
	if _, err := a.Maintain(t.Context(), snapshot.MaintainRequest{Full: true}); !errors.Is(err, snapshot.ErrNotOwner) {
		t.Errorf("the one who was replaced: %v", err)
	}
}

// TestSweep removes checkpoints of transfers that never went on.
func TestSweep(t *testing.T) {
	r := open(t, eager(), folder(t))
	_, _, err := backup(t, r, noise(8<<20, 1), func(b *snapshot.BackupRequest) {
		b.Moment, b.Workers, b.CheckpointEvery.Bytes = "one", 1, 2<<20
		b.Source = &dyingSource{Source: b.Source, left: 6}
	})
	if !errors.Is(err, snapshottest.ErrInjected) {
		t.Fatal(err)
	}
	for _, c := range []struct {
		late  time.Duration
		swept int
	}{{2 * 24 * time.Hour, 0}, {4 * 24 * time.Hour, 1}} {
		r.now = func() time.Time { return time.Now().Add(c.late) }
		if done, err := r.Maintain(t.Context(), snapshot.MaintainRequest{Full: true}); err != nil || done.Swept != c.swept {
			t.Errorf("%s later: %+v, %v", c.late, done, err)
		}
	}
}

// TestRetention locks blobs in a store that can, and refuses what makes no sense.
func TestRetention(t *testing.T) {
	for name, change := range map[string]func(*snapshot.Location){
		"not known":      func(l *snapshot.Location) { l.RetentionMode = "FOREVER" },
		"too short":      func(l *snapshot.Location) { l.RetentionPeriod = time.Hour },
		"no objects":     func(l *snapshot.Location) { l.Type, l.Path = snapshot.Filesystem, t.TempDir() },
		"not known: use": func(l *snapshot.Location) { l.RetentionMode = "" },
	} {
		l := snapshot.Location{Type: snapshot.S3, RetentionMode: "COMPLIANCE", RetentionPeriod: 30 * 24 * time.Hour}
		change(&l)
		if _, err := retention(l); err == nil || !strings.Contains(err.Error(), strings.Replace(name, "no objects", "locks no objects", 1)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
