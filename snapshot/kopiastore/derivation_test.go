package kopiastore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kopia/kopia/repo"

	"github.com/godwit-io/godwit/snapshot"
)

// TestOneDerivationAtATime takes the turn itself, looks that each way of opening waits
// for it, and that it is given back however opening ended.
func TestOneDerivationAtATime(t *testing.T) {
	place := folder(t)
	synctest.Test(t, func(t *testing.T) {
		o := New()
		open := func(l snapshot.Location, create bool) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r, err := o.Open(ctx, l, create)
			if err != nil {
				return err
			}
			return r.Close(ctx)
		}
		taken := func(l snapshot.Location, create bool) {
			t.Helper()
			free, err := o.derivations.take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer free()
			if err := open(l, create); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "other repositories' keys") {
				t.Errorf("it did not wait its turn: %v", err)
			}
		}
		taken(place, true)
		for range 2 {
			if err := open(place, true); err != nil {
				t.Fatal(err)
			}
			taken(place, false)
			if err := open(by(place, nextPassword), false); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("another password: %v", err)
			}
		}
	})
}

// TestByKopiasDefaults goes on in a repository that is made as stock kopia makes them, whose
// key is by scrypt, and replaces its password. Room is made for that key, and for no other.
func TestByKopiasDefaults(t *testing.T) {
	o, prepared := New(), 0
	o.derivations.prepare = func() { prepared++ }
	open(t, o, folder(t))
	if prepared > 0 {
		t.Error("room was made for a key that takes none")
	}
	l := folder(t)
	st, err := o.storage(t.Context(), l, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := repo.Initialize(t.Context(), st, &repo.NewRepositoryOptions{}, l.Password.Reveal()); err != nil {
		t.Fatal(err)
	}
	data := noise(1<<20, 7)
	image, _, err := backup(t, open(t, o, l), data, nil)
	if err != nil {
		t.Fatal(err)
	}
	if prepared != 1 {
		t.Errorf("room was made %d times", prepared)
	}
	if err := replace(t.Context(), o, l); err != nil {
		t.Fatal(err)
	}
	if err := reads(t.Context(), by(l, nextPassword), image.ID, data); err != nil {
		t.Error(err)
	}
	if file, err := os.ReadFile(formatFile(l)); err != nil || !bytes.Contains(file, []byte("scrypt")) {
		t.Errorf("its key is by another algorithm now (%v)", err)
	}
}

// TestCheckOpensOnce has somebody else derive for good: what passes then was not opened.
func TestCheckOpensOnce(t *testing.T) {
	place := folder(t)
	synctest.Test(t, func(t *testing.T) {
		o := New()
		check := func(l snapshot.Location) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return o.Check(ctx, l, false)
		}
		if err := check(place); !errors.Is(err, errNoRepository) {
			t.Errorf("where there is none: %v", err)
		}
		if err := o.Check(t.Context(), place, true); err != nil {
			t.Fatal(err)
		}
		free, err := o.derivations.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := check(place); err != nil {
			t.Errorf("it was opened again: %v", err)
		}
		if err := check(by(place, nextPassword)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("by another password it was not opened: %v", err)
		}
		time.Sleep(soundFor)
		if err := check(place); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after long it was not opened: %v", err)
		}
		free()
		if err := check(place); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(formatFile(place)); err != nil {
			t.Fatal(err)
		}
		if err := check(place); !errors.Is(err, errNoRepository) {
			t.Errorf("where there is none any more: %v", err)
		}
	})
}
