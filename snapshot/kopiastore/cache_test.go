package kopiastore

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/kopia/kopia/repo/blob"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// TestOneBadAnswerIsForgotten damages all of kopia's metadata while a client reads it, so
// that its cache holds what the storage no longer does.
func TestOneBadAnswerIsForgotten(t *testing.T) {
	t.Parallel()
	b := newMemoryStorage()
	o := eager()
	o.wrap = func(blob.Storage) blob.Storage { return b }
	l := folder(t)
	data := noise(3<<20, 1)
	image, _, err := backup(t, open(t, o, l), data, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, then := range map[string]func(*Repository) error{
		"maintain": func(r *Repository) error {
			_, err := r.Maintain(t.Context(), snapshot.MaintainRequest{Full: true, TakeOver: true})
			return err
		},
		"restore": func(r *Repository) error {
			_, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: snapshottest.NewDevice(make([]byte, len(data))), To: image.ID}, r)
			return err
		},
		"describe": func(r *Repository) error {
			_, err := r.Image(t.Context(), image.ID)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			own := l
			own.CacheDir, own.Host = "", name
			r := open(t, o, own)
			undo := b.damageMetadata(rand.New(rand.NewPCG(1, 2)))
			_, err := r.Open(t.Context(), image.ID)
			undo()
			if !errors.Is(err, snapshot.ErrCorrupt) {
				t.Fatalf("damaged metadata gave %v", err)
			}
			if err := then(r); err != nil {
				t.Errorf("after the damage was gone: %v", err)
			}
		})
	}
}
