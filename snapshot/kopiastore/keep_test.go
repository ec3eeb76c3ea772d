package kopiastore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// keeping is an Opener that closes nothing by itself until the test ends.
func keeping(t *testing.T) *Opener {
	t.Helper()
	o := New(KeepOpen(time.Hour))
	t.Cleanup(func() {
		if err := o.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return o
}

func lent(t *testing.T, o *Opener, l snapshot.Location) snapshot.Repository {
	t.Helper()
	r, err := o.Open(t.Context(), l, true)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func returned(t *testing.T, r snapshot.Repository) {
	t.Helper()
	if err := errors.Join(r.Close(t.Context()), r.Close(t.Context())); err != nil {
		t.Error(err)
	}
}

func same(t *testing.T, a, b snapshot.Repository) bool {
	t.Helper()
	one, ok := a.(*keptRepository)
	two, okay := b.(*keptRepository)
	if !ok || !okay {
		t.Fatalf("%T and %T", a, b)
	}
	return one.Repository == two.Repository
}

func TestKeptOpen(t *testing.T) {
	t.Parallel()
	l, o := folder(t), keeping(t)
	first := lent(t, o, l)
	beside := lent(t, o, l)
	if same(t, first, beside) {
		t.Error("two users at once share one")
	}
	returned(t, first)
	data := noise(3<<20, 1)
	image, _, err := backup(t, open(t, New(), l), data, nil)
	if err != nil {
		t.Fatal(err)
	}
	again := lent(t, o, l)
	if !same(t, first, again) {
		t.Error("it was opened anew")
	}
	if found, err := again.Image(t.Context(), image.ID); err != nil || found.ID != image.ID {
		t.Errorf("what another client stored meanwhile: %v, %v", found, err)
	}
	returned(t, beside)
	returned(t, again) // There is one already, so that it is closed.
	if kept := lent(t, o, l); !same(t, beside, kept) {
		t.Error("not the one that was given back first")
	} else {
		returned(t, kept)
	}
	for name, change := range map[string]func(*snapshot.Location){
		"host": func(l *snapshot.Location) { l.Host = "another" }, "cache": func(l *snapshot.Location) { l.CacheDir = t.TempDir() },
	} {
		other := l
		change(&other)
		r := lent(t, o, other)
		if same(t, beside, r) {
			t.Errorf("another %s is served by the same", name)
		}
		returned(t, r)
	}
	other := l
	other.Password = "another secret"
	if _, err := o.Open(t.Context(), other, false); err == nil {
		t.Error("a wrong password opens what is kept open")
	}
}

// TestPlacesHaveTheirSecrets sees that each secret of a Location makes another place.
func TestPlacesHaveTheirSecrets(t *testing.T) {
	t.Parallel()
	var l snapshot.Location
	seen := map[placeKey]bool{keyOf(l): true}
	secrets := 0
	var each func(reflect.Value)
	each = func(v reflect.Value) {
		for i := range v.NumField() {
			switch f := v.Field(i); {
			case f.Type() == reflect.TypeFor[snapshot.Secret]():
				secrets++
				f.SetString("secret")
				seen[keyOf(l)] = true
				f.SetString("")
			case f.Kind() == reflect.Struct:
				each(f)
			}
		}
	}
	each(reflect.ValueOf(&l).Elem())
	if secrets < 4 || len(seen) != secrets+1 {
		t.Errorf("%d secrets make %d places", secrets, len(seen))
	}
}

// TestKeptOpenIsBounded opens more places than are kept.
func TestKeptOpenIsBounded(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	l, o := folder(t), keeping(t)
	for i := range mostKept + 1 {
		other := l
		other.Host = fmt.Sprint("host", i)
		returned(t, lent(t, o, other))
	}
	if entries, err := os.ReadDir(temporary); err != nil || len(entries) != mostKept {
		t.Errorf("%d folders of open repositories are left (%v)", len(entries), err)
	}
}

// TestKeptOpenIsWhatIsThere takes the repository away, and puts another in its place.
func TestKeptOpenIsWhatIsThere(t *testing.T) {
	t.Parallel()
	l, o := folder(t), keeping(t)
	first := lent(t, o, l)
	returned(t, first)
	entries, err := filepath.Glob(filepath.Join(l.Path, "*"))
	if err != nil || len(entries) == 0 {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(e); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := o.Open(t.Context(), l, false); !errors.Is(err, errNoRepository) {
		t.Errorf("an empty folder gave %v", err)
	}
	data := noise(3<<20, 2)
	image, _, err := backup(t, open(t, New(), l), data, nil)
	if err != nil {
		t.Fatal(err)
	}
	next := lent(t, o, l)
	defer returned(t, next)
	if same(t, first, next) {
		t.Error("the repository that is gone is used")
	}
	sink := snapshottest.NewDevice(make([]byte, len(data)))
	if _, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: image.ID}, next); err != nil || !bytes.Equal(sink.Bytes(), data) {
		t.Errorf("restore from the one in its place: %v", err)
	}
}

// TestKeptOpenEnds sees that nothing is left of what is closed after a while, or at the
// end, and that what is in use is not closed.
func TestKeptOpenEnds(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	left := func() int {
		entries, err := os.ReadDir(temporary)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	l := folder(t)
	brief := New(KeepOpen(time.Millisecond))
	used := lent(t, brief, l)
	returned(t, lent(t, brief, l))
	time.Sleep(20 * time.Millisecond)
	if _, err := used.Images(t.Context(), snapshot.Volume{Cluster: "c1", Namespace: "ns", Name: "v"}); err != nil {
		t.Errorf("what is in use: %v", err)
	}
	returned(t, used)
	for end := time.Now().Add(10 * time.Second); left() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it stays open")
		}
	}
	o := New(KeepOpen(time.Hour))
	used = lent(t, o, l)
	returned(t, lent(t, o, l))
	if left() != 2 {
		t.Fatalf("%d folders of open repositories, one in use and one kept", left())
	}
	if err := o.Close(t.Context()); err != nil || left() != 1 {
		t.Errorf("%d folders of open repositories are left: %v", left(), err)
	}
	returned(t, used)
	returned(t, lent(t, o, l))
	if left() > 0 {
		t.Error("what was in use at the end, or opened after it, stays open")
	}
}

func TestKeptOpenKeepsTheContract(t *testing.T) {
	t.Parallel()
	l, o := folder(t), keeping(t)
	one, two := lent(t, o, l), lent(t, o, l)
	snapshottest.TestRounds(t, one)
	snapshottest.TestEpochs(t, one, two)
	returned(t, one)
	returned(t, two)
}

func TestKeptOpenByManyAtOnce(t *testing.T) {
	t.Parallel()
	l, o := folder(t), keeping(t)
	var group sync.WaitGroup
	for n := range 4 {
		group.Go(func() {
			for i := range 5 {
				r, err := o.Open(t.Context(), l, true)
				if err != nil {
					t.Error(err)
					return
				}
				data := noise(1<<20, byte(10*n+i))
				image, _, err := backup(t, r, data, func(b *snapshot.BackupRequest) { b.Image.Volume.Name = fmt.Sprint("v", n) })
				if err != nil {
					t.Error(err)
				} else {
					sink := snapshottest.NewDevice(make([]byte, len(data)))
					if _, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: image.ID}, r); err != nil || !bytes.Equal(sink.Bytes(), data) {
						t.Errorf("restore: %v", err)
					}
				}
				if err := r.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}
