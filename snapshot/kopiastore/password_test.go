package kopiastore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

const nextPassword = "another long secret"

// errKilled stands for the end of a process.
var errKilled = errors.New("killed")

// dying lets so many writes through and none after; the last one may have reached
// the store without its answer.
type dying struct {
	blob.Storage
	left    *int
	reaches bool
}

func (d dying) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, o blob.PutOptions) error {
	return d.write(func() error { return d.Storage.PutBlob(ctx, id, data, o) })
}

func (d dying) DeleteBlob(ctx context.Context, id blob.ID) error {
	return d.write(func() error { return d.Storage.DeleteBlob(ctx, id) })
}

func (d dying) write(do func() error) error {
	*d.left--
	if *d.left > 0 {
		return do()
	}
	if *d.left == 0 && d.reaches {
		return errors.Join(errKilled, do())
	}
	return errKilled
}

func by(l snapshot.Location, password snapshot.Secret) snapshot.Location {
	l.Password = password
	return l
}

// replace takes all the steps; each may have been taken before.
func replace(ctx context.Context, o *Opener, l snapshot.Location) error {
	if err := o.AdmitPassword(ctx, l, nextPassword); err != nil {
		return err
	}
	if err := o.SettlePassword(ctx, by(l, nextPassword)); err != nil {
		return err
	}
	return o.EndFormerPassword(ctx, by(l, nextPassword))
}

// reads opens the repository and reads the image.
func reads(ctx context.Context, l snapshot.Location, id snapshot.ImageID, want []byte) error {
	r, err := New().open(ctx, l, false)
	if err != nil {
		return err
	}
	return errors.Join(readsFrom(ctx, r, id, want), r.Close(ctx))
}

func readsFrom(ctx context.Context, r *Repository, id snapshot.ImageID, want []byte) error {
	device := snapshottest.NewDevice(make([]byte, len(want)))
	if _, err := snapshot.Apply(ctx, snapshot.ApplyRequest{Sink: device, To: id}, r); err != nil {
		return err
	}
	if !bytes.Equal(device.Bytes(), want) {
		return fmt.Errorf("image %s has other bytes", id)
	}
	return nil
}

// TestPasswordReplacedByHalves ends the process at each write of a replacement, and
// with the write that reached the store: whoever has either password reads on, and
// the next process finishes it.
func TestPasswordReplacedByHalves(t *testing.T) {
	t.Parallel()
	// One blob beside, two files of kopia's, and one blob away.
	for kill := 1; kill <= 4; kill++ {
		for _, reaches := range []bool{false, true} {
			t.Run(fmt.Sprintf("folder, killed at %d, %v", kill, reaches), func(t *testing.T) { testReplacedByHalves(t, folder(t), kill, reaches) })
		}
	}
	t.Run("object store, killed between the files", func(t *testing.T) {
		testReplacedByHalves(t, snapshottest.StartObjectStore(t).Location(t, "halves"), 2, true)
	})
}

func testReplacedByHalves(t *testing.T, l snapshot.Location, kill int, reaches bool) {
	ctx := t.Context()
	data := noise(3<<20, 7)
	image, _, err := backup(t, open(t, New(), l), data, nil)
	if err != nil {
		t.Fatal(err)
	}
	left := kill
	breaking := New()
	breaking.wrap = func(st blob.Storage) blob.Storage { return dying{st, &left, reaches} }
	if err := replace(ctx, breaking, l); !errors.Is(err, errKilled) {
		t.Fatalf("write %d was not the end: %v", kill, err)
	}
	formerEnded := kill == 4 && reaches
	admitted := kill > 1 || reaches
	for password, opens := range map[snapshot.Secret]bool{l.Password: !formerEnded, nextPassword: admitted} {
		err := reads(ctx, by(l, password), image.ID, data)
		if opens && err != nil {
			t.Errorf("by %q: %v", password.Reveal(), err)
		}
		if !opens && !errors.Is(err, repo.ErrInvalidPassword) {
			t.Errorf("by %q, which does not open it: %v", password.Reveal(), err)
		}
	}
	// Steps that are over are not begun again by the password that is over.
	if !formerEnded {
		if err := replace(ctx, New(), l); err != nil {
			t.Fatal(err)
		}
	}
	if err := New().AdmitPassword(ctx, by(l, "no password of it"), "a thief's"); !errors.Is(err, repo.ErrInvalidPassword) {
		t.Errorf("a password that never opened it is replaced: %v", err)
	}
	if err := reads(ctx, by(l, nextPassword), image.ID, data); err != nil {
		t.Error(err)
	}
	if err := reads(ctx, l, image.ID, data); err == nil || !strings.Contains(err.Error(), "the repository password is wrong") {
		t.Errorf("the former password: %v", err)
	}
	if err := New().SettlePassword(ctx, l); !errors.Is(err, repo.ErrInvalidPassword) {
		t.Errorf("the former password is settled again: %v", err)
	}
}

// TestPasswordUnderReaders replaces the password again and again while others open,
// read, write and stay open.
func TestPasswordUnderReaders(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := snapshottest.StartObjectStore(t).Location(t, "readers")
	data := noise(2<<20, 8)
	// Kopia reads its two files again at every turn, and not every 15 minutes.
	soon := New()
	soon.formatLife = time.Nanosecond
	stays := open(t, soon, l)
	image, _, err := backup(t, stays, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.RWMutex
	known := []snapshot.Secret{l.Password}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					t.Logf("opened and read %d times", n)
					return
				default:
				}
				// Whoever reads the Secret has one of the passwords that open it now.
				mu.RLock()
				err := reads(ctx, by(l, known[n%len(known)]), image.ID, data)
				mu.RUnlock()
				if err != nil {
					t.Errorf("read %d: %v", n, err)
					return
				}
			}
		})
	}
	o := New()
	current := l
	step := func(do func() error, then ...snapshot.Secret) {
		t.Helper()
		if err := do(); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		known = then
	}
	for n := range 2 {
		next := by(l, snapshot.Secret(fmt.Sprintf("password %d of this repository", n)))
		step(func() error { return o.AdmitPassword(ctx, current, next.Password) }, current.Password, next.Password)
		step(func() error { return o.SettlePassword(ctx, next) }, next.Password)
		step(func() error { return o.EndFormerPassword(ctx, next) }, next.Password)
		current = next
		if err := readsFrom(ctx, stays, image.ID, data); err != nil {
			t.Errorf("what was open before: %v", err)
		}
		more := noise(1<<20, byte(20+n))
		written, _, err := backup(t, stays, more, nil)
		if err != nil {
			t.Fatalf("what was open before writes: %v", err)
		}
		if err := reads(ctx, current, written.ID, more); err != nil {
			t.Errorf("what it wrote: %v", err)
		}
	}
	close(done)
	wg.Wait()
}
