package kopiastore

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/godwit-io/godwit/snapshot"
)

// TestFatal has another program change the repository's format while it is open: kopia
// finds that fatal in the midst of a request, and left to itself ends the process. All
// further use has to say so.
func TestFatal(t *testing.T) {
	l := folder(t)
	o := keeping(t)
	// Kopia reads the format again at every turn, and not every 15 minutes.
	o.formatLife = time.Nanosecond
	kept, ok := lent(t, o, l).(*keptRepository)
	if !ok {
		t.Fatal("it is not one that is kept open")
	}
	r := kept.Repository
	data := noise(1<<20, 1)
	image, _, err := backup(t, r, data, nil)
	must(t, err)
	reader, err := r.Open(t.Context(), image.ID)
	must(t, err)
	writer, err := r.Begin(t.Context(), snapshot.Image{Volume: image.Volume, Kind: snapshot.Block, Size: 1 << 20, ChunkSize: image.ChunkSize}, "")
	must(t, err)
	requireMore(t, l)

	if _, _, err := backup(t, r, noise(1<<20, 2), nil); err == nil || !strings.Contains(err.Error(), "of tomorrow") {
		t.Fatalf("the first write gives %v", err)
	}
	unusable := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "repository "+describe(l)+" became unusable, open it again: ") || !strings.Contains(err.Error(), "of tomorrow") {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = r.Images(t.Context(), snapshot.Volume{})
	unusable("listing", err)
	_, err = r.Open(t.Context(), image.ID)
	unusable("opening an image", err)
	_, _, err = backup(t, r, data, nil)
	unusable("a new image", err)
	_, err = writer.Put(t.Context(), 0, make([]byte, image.ChunkSize))
	unusable("a chunk", err)
	if _, _, err := writer.Commit(t.Context()); err == nil {
		t.Error("an image that was begun before is complete")
	}
	must(t, errors.Join(reader.Close(), writer.Abort(t.Context())))

	returned(t, kept)
	if o.kept.take(keyOf(normal(l))) != nil {
		t.Error("it is kept open for the next user")
	}
}

// requireMore has the repository ask for something that no kopia knows.
func requireMore(t *testing.T, l snapshot.Location) {
	t.Helper()
	formats := open(t, New(), l).rep.FormatManager()
	parameters, err := formats.GetMutableParameters(t.Context())
	must(t, err)
	blobs, err := formats.BlobCfgBlob(t.Context())
	must(t, err)
	// The type is kopia's own, and not to be named here.
	features, err := formats.RequiredFeatures(t.Context())
	must(t, err)
	must(t, json.Unmarshal([]byte(`[{"feature": "of tomorrow"}]`), &features))
	must(t, formats.SetParameters(t.Context(), parameters, blobs, features))
}
