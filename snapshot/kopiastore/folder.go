package kopiastore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/filesystem"
	"github.com/kopia/kopia/repo/blob/sharded"

	"github.com/godwit-io/godwit/snapshot"
)

// folderStorage keeps blobs in a local folder, and returns from each put once the blob
// is on the disk. Kopia leaves that to the system: after a power failure an index may be
// there whose packs are not, and what it lists is taken for stored by all who come after.
type folderStorage struct {
	blob.Storage
	sharded sharding
	root    string

	mu sync.Mutex
	// named are the folders whose own names are on the disk.
	named map[string]bool
}

// sharding tells where kopia's storage puts a blob.
type sharding interface {
	GetShardedPathAndFilePath(ctx context.Context, id blob.ID) (dir, file string, err error)
}

func newFolder(ctx context.Context, l snapshot.Location, create bool) (blob.Storage, error) {
	root := filepath.Clean(l.Path)
	var parents []string
	for dir := root; create && missing(dir); dir = filepath.Dir(dir) {
		parents = append(parents, filepath.Dir(dir))
	}
	st, err := filesystem.New(ctx, &filesystem.Options{Path: root, FileMode: configFileMode, DirectoryMode: configDirMode}, create)
	if err != nil {
		return nil, err
	}
	s, ok := st.(sharding)
	if !ok {
		return nil, fmt.Errorf("kopia's storage of folders is a %T, which does not tell where it puts a blob", st)
	}
	for _, dir := range parents {
		if err := syncPath(dir); err != nil {
			return nil, fmt.Errorf("folder %s was made, and may not be on the disk: %w", root, err)
		}
	}
	return &folderStorage{Storage: st, sharded: s, root: root, named: map[string]bool{}}, nil
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// PutBlob writes, and waits for the disk.
func (s *folderStorage) PutBlob(ctx context.Context, id blob.ID, data blob.Bytes, opts blob.PutOptions) error {
	if err := s.Storage.PutBlob(ctx, id, data, opts); err != nil {
		return err
	}
	dir, file, err := s.sharded.GetShardedPathAndFilePath(ctx, id)
	if err != nil {
		return err
	}
	if err := errors.Join(syncPath(file), syncPath(dir), s.syncNames(dir)); err != nil {
		return fmt.Errorf("blob %s was written, and may not be on the disk of folder %s: %w", id, s.root, err)
	}
	return nil
}

// syncNames waits until the folders on the way from the root to dir are on the disk, and
// what says how kopia spreads blobs over them.
func (s *folderStorage) syncNames(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.named[s.root] {
		if err := errors.Join(syncPath(filepath.Join(s.root, sharded.ParametersFile)), syncPath(s.root)); err != nil {
			return err
		}
		s.named[s.root] = true
	}
	for ; !s.named[dir]; dir = filepath.Dir(dir) {
		if err := syncPath(filepath.Dir(dir)); err != nil {
			return err
		}
		s.named[dir] = true
	}
	return nil
}

// syncPath waits until a file or a folder is on the disk.
func syncPath(path string) error {
	f, err := os.Open(path) //nolint:gosec // a path of the repository
	if err != nil {
		return err
	}
	err = f.Sync()
	if info, e := f.Stat(); e == nil && info.IsDir() && errors.Is(err, syscall.EINVAL) {
		// A file system that keeps names in order by itself.
		err = nil
	}
	return errors.Join(err, f.Close())
}
