package kopiastore

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kopia/kopia/repo"
	kopia "github.com/kopia/kopia/snapshot"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// formatFile is where kopia keeps what it must know of a repository to open it.
func formatFile(l snapshot.Location) string {
	return filepath.Join(l.Path, "kopia.repository.f")
}

// TestForeignPlaces opens what is no repository, or one that it cannot read.
func TestForeignPlaces(t *testing.T) {
	good := folder(t)
	if err := justOpen(t.Context(), New(), good); err != nil {
		t.Fatal(err)
	}
	format, err := os.ReadFile(formatFile(good))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(l *snapshot.Location) error
		want   string
	}{
		"wrong password": {func(l *snapshot.Location) error { l.Password = "guess"; return nil }, "the repository password is wrong"},
		"no password":    {func(l *snapshot.Location) error { l.Password = ""; return nil }, "password is empty"},
		"newer": {func(l *snapshot.Location) error {
			return os.WriteFile(formatFile(*l), change(t, format, derivationName, "scrypt-9"), 0o600)
		}, "made by a newer or another program"},
		"other encryption": {func(l *snapshot.Location) error {
			return os.WriteFile(formatFile(*l), change(t, format, "AES256_GCM", "ROT13"), 0o600)
		}, "made by a newer or another program"},
		"no repository's": {func(l *snapshot.Location) error { return os.WriteFile(formatFile(*l), []byte("hello"), 0o600) }, "made by a newer or another program"},
		"empty":           {func(l *snapshot.Location) error { return os.WriteFile(formatFile(*l), nil, 0o600) }, "made by a newer or another program"},
	} {
		t.Run(name, func(t *testing.T) {
			l := good
			l.CacheDir = ""
			if err := c.change(&l); err != nil {
				t.Fatal(err)
			}
			before := contents(t, l.Path)
			err := justOpen(t.Context(), New(), l)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("open says: %v\nwant: %s", err, c.want)
			}
			if after := contents(t, l.Path); after != before {
				t.Errorf("the folder held\n%s\nand now\n%s", before, after)
			}
			if err := os.WriteFile(formatFile(good), format, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func change(t *testing.T, data []byte, from, to string) []byte {
	t.Helper()
	if !bytes.Contains(data, []byte(from)) {
		t.Fatalf("there is no %s to change in %s", from, data)
	}
	return bytes.Replace(data, []byte(from), []byte(to), 1)
}

// contents lists a folder with its files' sizes.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() {
			_, _ = all.WriteString(path + " " + info.ModTime().String() + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestForeignImages asks for images that are of another volume, kind or
// version, and wants one clear error and nothing written.
func TestForeignImages(t *testing.T) {
	r := open(t, New(), folder(t))
	data := noise(1<<20, 4)
	image, _, err := backup(t, r, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := r.BackupTree(t.Context(), t.TempDir(), snapshot.Image{Volume: snapshot.Volume{Cluster: "c", Namespace: "n", Name: "tree"}}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	newer := rewrite(t, r, image, func(record map[string]any) { record["format"] = 2 })
	longer := rewrite(t, r, image, func(record map[string]any) { record["image"].(map[string]any)["size"] = 2 << 20 })
	torn := rewrite(t, r, image, func(record map[string]any) { record["segmentSize"] = 1000 })
	for name, c := range map[string]struct {
		request snapshot.ReconcileRequest
		want    string
		is      error
	}{
		"another volume's": {snapshot.ReconcileRequest{To: image.ID, Volume: snapshot.Volume{Cluster: "c9", Namespace: "ns", Name: "v"}}, "an image of volume c1/ns/v, not of c9/ns/v", nil},
		"a tree":           {snapshot.ReconcileRequest{To: tree.ID}, "of kind Tree, not Block", nil},
		"newer":            {snapshot.ReconcileRequest{To: newer}, "has format 2, and this one reads format 1: upgrade Godwit", nil},
		"longer":           {snapshot.ReconcileRequest{To: longer}, "does not describe its volume", snapshot.ErrCorrupt},
		"torn":             {snapshot.ReconcileRequest{To: torn}, "does not describe its volume", snapshot.ErrCorrupt},
		"none":             {snapshot.ReconcileRequest{To: "0123456789abcdef0123456789abcdef"}, "0123456789abcdef0123456789abcdef", snapshot.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			sink := snapshottest.NewDevice(make([]byte, 4<<20))
			sink.OnWrite = func(offset, length int64) error {
				t.Errorf("%d bytes were written at %d", length, offset)
				return nil
			}
			c.request.Sink = sink
			_, reconciled := snapshot.Reconcile(t.Context(), c.request, r)
			_, applied := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: c.request.To, Volume: c.request.Volume}, r)
			_, verified := snapshot.Verify(t.Context(), snapshot.VerifyRequest{Source: sink, Image: c.request.To, Volume: c.request.Volume}, r)
			for what, err := range map[string]error{"reconcile": reconciled, "apply": applied, "verify": verified} {
				if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
					t.Errorf("%s says: %v\nwant: %s", what, err, c.want)
				}
			}
		})
	}
	small := snapshottest.NewDevice(make([]byte, 1000))
	small.OnWrite = func(int64, int64) error { t.Error("a volume that is too small was written"); return nil }
	if _, err := snapshot.Reconcile(t.Context(), snapshot.ReconcileRequest{Sink: small, To: image.ID}, r); err == nil || !strings.Contains(err.Error(), "smaller than the image") {
		t.Errorf("a small volume: %v", err)
	}
}

// rewrite stores the image once more with another record.
func rewrite(t *testing.T, r *Repository, image snapshot.Image, change func(map[string]any)) snapshot.ImageID {
	t.Helper()
	ctx := t.Context()
	m, err := r.manifestOf(ctx, image.ID, kindImage)
	if err != nil {
		t.Fatal(err)
	}
	files, err := r.files(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	data, err := r.readFile(ctx, files, imageFile)
	if err != nil {
		t.Fatal(err)
	}
	record := map[string]any{}
	if err := json.Unmarshal(data, &record); err != nil {
		t.Fatal(err)
	}
	change(record)
	if data, err = json.Marshal(record); err != nil {
		t.Fatal(err)
	}
	_, w, err := r.rep.NewDirectWriter(ctx, sessionForTest())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close(ctx) }()
	entry, err := writeFile(ctx, repo.RepositoryWriter(w), imageFile, data, m.StartTime)
	if err != nil {
		t.Fatal(err)
	}
	id, err := r.save(ctx, w, directory{
		entries: []*kopia.DirEntry{entry, files[volumeName]}, source: m.Source, taken: image.Taken, size: image.Size, tags: map[string]string{kindTag: kindImage},
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.ImageID(id)
}
