package blockdev

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// shrinking is a source that loses all behind an offset when that is read.
type shrinking struct {
	*Source
	from  int64
	loses func() error
}

func (s *shrinking) ReadAt(p []byte, offset int64) (int, error) {
	if offset == s.from {
		if err := s.loses(); err != nil {
			return 0, fmt.Errorf("the test: %w", err)
		}
	}
	return s.Source.ReadAt(p, offset)
}

// TestSourceThatShrinks takes the end of a file, and of a device, from under a backup: it
// ends with one error that says where, and lists nothing.
func TestSourceThatShrinks(t *testing.T) {
	const size, left = 8 << 20, 3 << 20
	image := file(t, size)
	device, backing := loop(t, size)
	for name, c := range map[string]struct{ path, backing, want string }{
		"file":   {image, image, "unexpected EOF"},
		"device": {device, backing, "input/output error"},
	} {
		t.Run(name, func(t *testing.T) {
			source, err := OpenSource(c.path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := source.Close(); err != nil {
					t.Error(err)
				}
			}()
			volume, store := snapshot.Volume{Cluster: "c", Namespace: "ns", Name: "v"}, snapshottest.NewMemory()
			_, _, err = snapshot.Backup(t.Context(), snapshot.BackupRequest{
				Source: &shrinking{source, left, func() error { return os.Truncate(c.backing, left) }}, Workers: 1,
				Image: snapshot.Image{Volume: volume, Method: snapshot.MethodScan},
			}, store)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), fmt.Sprintf("bytes at %d", left)) {
				t.Errorf("%v", err)
			}
			if images, err := store.Images(t.Context(), volume); err != nil || len(images) > 0 {
				t.Errorf("%d images are listed: %v", len(images), err)
			}
		})
	}
}
