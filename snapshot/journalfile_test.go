package snapshot_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
)

func TestJournalFile(t *testing.T) {
	dir := t.TempDir()
	j := snapshot.JournalFile(filepath.Join(dir, "data.journal"))
	want := func(want string) {
		t.Helper()
		if got, err := j.Load(t.Context()); err != nil || string(got) != want {
			t.Errorf("loaded %q, %v, want %q", got, err, want)
		}
	}
	want("")
	for _, entry := range []string{"one", "two"} {
		if err := j.Save(t.Context(), []byte(entry)); err != nil {
			t.Fatal(err)
		}
		want(entry)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("saving left %v, %v", files, err)
	}
	for range 2 {
		if err := j.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want("")
	nowhere := snapshot.JournalFile(filepath.Join(dir, "none", "data.journal"))
	if err := nowhere.Save(t.Context(), []byte("one")); err == nil {
		t.Error("an entry was saved where there is no folder")
	}
}
