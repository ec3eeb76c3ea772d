package kopiastore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/object"

	"github.com/godwit-io/godwit/snapshot"
)

// lyingStorage changes a bit of what it gives of packs, so often.
type lyingStorage struct {
	blob.Storage
	lies *atomic.Int64
}

func (s lyingStorage) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if !strings.HasPrefix(string(id), "p") || s.lies.Add(-1) < 0 {
		return s.Storage.GetBlob(ctx, id, offset, length, out)
	}
	truth := &spanBuffer{data: make([]byte, 0, 2*packSize)}
	if err := s.Storage.GetBlob(ctx, id, offset, length, truth); err != nil {
		return err
	}
	truth.data[len(truth.data)/2] ^= 1
	_, err := io.Copy(out, bytes.NewReader(truth.data))
	return err
}

// TestObjectsAreReadPastOneBadAnswer has the storage lie in the middle of an object, once
// and then all the time.
func TestObjectsAreReadPastOneBadAnswer(t *testing.T) {
	t.Parallel()
	lies := &atomic.Int64{}
	o := New()
	o.wrap = func(st blob.Storage) blob.Storage { return lyingStorage{st, lies} }
	r := open(t, o, folder(t))
	data := noise(20<<20, 7)
	var id object.ID
	must(t, repo.DirectWriteSession(t.Context(), r.rep, repo.WriteSessionOptions{}, func(ctx context.Context, w repo.DirectRepositoryWriter) (err error) {
		id, err = writeObject(ctx, w, data, object.WriterOptions{})
		return err
	}))
	read := func(most int64) error {
		from := &sureReader{ctx: t.Context(), repository: r, id: id}
		defer func() { must(t, from.Close()) }()
		got := make([]byte, len(data)/2)
		_, err := io.ReadFull(from, got)
		must(t, err)
		lies.Store(most)
		defer lies.Store(0)
		rest, err := io.ReadAll(from)
		if lies.Load() >= most {
			t.Error("nothing was read of the storage")
		}
		if err == nil && !bytes.Equal(append(got, rest...), data) {
			t.Error("other bytes came back")
		}
		return err
	}
	if err := read(1); err != nil {
		t.Errorf("one bad answer gave %v", err)
	}
	err := r.damage(read(1 << 20))
	if !errors.Is(err, snapshot.ErrCorrupt) || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "in blob p") {
		t.Errorf("bad answers gave %v", err)
	}
}
