package kopiastore

import (
	"context"
	"slices"
	"testing"

	"github.com/kopia/kopia/repo/blob"

	"github.com/godwit-io/godwit/snapshot"
)

// countedLists counts lists by their prefix.
type countedLists struct {
	blob.Storage
	asked []blob.ID
}

func (c *countedLists) ListBlobs(ctx context.Context, prefix blob.ID, tell func(blob.Metadata) error) error {
	c.asked = append(c.asked, prefix)
	return c.Storage.ListBlobs(ctx, prefix, tell)
}

func TestOneListAnswersOnce(t *testing.T) {
	t.Parallel()
	under := &countedLists{Storage: newMemoryStorage()}
	st := oneList{under}
	ctx := withOneList(t.Context())
	put := func(id blob.ID) {
		if err := st.PutBlob(ctx, id, blobBytes("x"), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(prefix blob.ID, lists int, want ...blob.ID) {
		t.Helper()
		found, err := blob.ListAllBlobs(ctx, st, prefix)
		ids := blob.IDsFromMetadata(found)
		slices.Sort(ids)
		if err != nil || !slices.Equal(ids, want) || len(under.asked) != lists {
			t.Fatalf("%s gives %v after lists of %v, not %v after %d (%v)", prefix, ids, under.asked, want, lists, err)
		}
	}
	put("xn0_a")
	put("xs1_a")
	put("pack")
	expect("xe", 1)
	expect("xn0_", 1, "xn0_a")
	expect("xs", 1, "xs1_a")
	if err := under.PutBlob(ctx, "xn0_b", blobBytes("x"), blob.PutOptions{}); err != nil { // another client
		t.Fatal(err)
	}
	expect("xw", 1)
	expect("xn0_", 2, "xn0_a", "xn0_b")
	put("xn1_c")
	expect("xn1_", 3, "xn1_c")
	if err := st.DeleteBlob(ctx, "xn0_a"); err != nil {
		t.Fatal(err)
	}
	expect("xn0_", 4, "xn0_b")
	expect("p", 5, "pack")
	ctx = t.Context()
	expect("xn0_", 6, "xn0_b")
	expect("xn1_", 7, "xn1_c")
}

// TestFewLists holds what a small round asks an object store for, which is far
// away: each is a round trip.
func TestFewLists(t *testing.T) {
	t.Parallel()
	under := &countedLists{Storage: newMemoryStorage()}
	o := New()
	o.wrap = func(blob.Storage) blob.Storage { return under }
	r := open(t, o, folder(t))
	opened := len(under.asked)
	if opened > 1 {
		t.Errorf("opening takes lists of %v", under.asked)
	}
	w, err := r.Begin(t.Context(), snapshot.Image{Volume: snapshot.Volume{Cluster: "c", Namespace: "n", Name: "v"}, Size: smallChunk, Method: snapshot.MethodScan}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Put(t.Context(), 0, make([]byte, smallChunk)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if round := len(under.asked) - opened; round > 3 {
		t.Errorf("a round takes lists of %v", under.asked[opened:])
	}
}
