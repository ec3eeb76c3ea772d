package kopiastore

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
