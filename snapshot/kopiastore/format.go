package kopiastore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/format"

	"github.com/godwit-io/godwit/snapshot"
)

// formatStorage tells an open repository of the two files that it was opened with.
// Kopia reads them again every quarter of an hour, and every write fails from then
// on where the password was replaced meanwhile. The keys of the contents are the
// same by each password: what is open goes on, and what is opened anew has to know
// the new one. Files that changed and are still by the same password are told of.
type formatStorage struct {
	blob.Storage
	password snapshot.Secret

	mu    sync.Mutex
	files formatFiles
	// whole is true once files has both, settled once kopia opened by them.
	whole, settled bool
	// foreign are files by another password.
	foreign formatFiles
	// derivations bound what this one takes part in until free is called.
	derivations derivations
	free        func()
}

func newFormatStorage(st blob.Storage, l snapshot.Location, formatBlob []byte, d derivations) *formatStorage {
	return &formatStorage{Storage: st, password: l.Password, files: formatFiles{Repository: bytes.Clone(formatBlob)}, derivations: d, free: func() {}}
}

// GetBlob reads.
func (s *formatStorage) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if s.files.part(id) == nil || offset != 0 || length >= 0 {
		return s.Storage.GetBlob(ctx, id, offset, length, out)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.look(ctx); err != nil {
		return err
	}
	if err := s.derive(ctx, id); err != nil {
		return err
	}
	return formatMemory{files: &s.files}.GetBlob(ctx, id, offset, length, out)
}

// look reads what kopia has not been told, or what may be new.
func (s *formatStorage) look(ctx context.Context) error {
	if s.whole && !s.settled {
		return nil
	}
	if !s.whole {
		var found buffer
		err := s.Storage.GetBlob(ctx, format.KopiaBlobCfgBlobID, 0, -1, &found)
		if err != nil && !errors.Is(err, blob.ErrBlobNotFound) {
			return err
		}
		if err == nil {
			s.files.BlobConfig = bytes.Clone(found.Bytes())
		}
		s.whole = true
		return nil
	}
	stands, err := readFormat(ctx, s.Storage)
	if err != nil || stands.same(s.files) || stands.same(s.foreign) {
		return err
	}
	if _, err := stands.openBy(ctx, s.password); err != nil {
		s.foreign = stands
		return nil //nolint:nilerr // it is by another password, and what is open stays so
	}
	s.files = stands
	return nil
}

// derive has kopia wait for its turn to derive its key: it opens the first file by it
// before it reads the second.
func (s *formatStorage) derive(ctx context.Context, id blob.ID) error {
	s.free()
	if id != format.KopiaRepositoryBlobID || s.settled {
		return nil
	}
	free, err := s.derivations.takeFor(ctx, s.files.Repository)
	if err == nil {
		s.free = free
	}
	return err
}

// derived says that kopia derives no key any more.
func (s *formatStorage) derived() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free()
}

// settle says that kopia opened by the files.
func (s *formatStorage) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled = true
}

// use has kopia try other files.
func (s *formatStorage) use(f formatFiles) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files, s.whole = f, true
}

// others are the files to try where those that stand are by another password, or by
// two: those that are kept while it is replaced, and those that stand by now.
func (s *formatStorage) others(ctx context.Context) ([]formatFiles, error) {
	aside, err := readAside(ctx, s.Storage)
	if err != nil {
		return nil, err
	}
	stands, err := readFormat(ctx, s.Storage)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !stands.same(s.files) {
		aside = append(aside, stands)
	}
	return aside, nil
}

// forgetFormat keeps what kopia was told in vain from those who share the cache.
func forgetFormat(cache string) error {
	var err error
	for _, id := range []blob.ID{format.KopiaRepositoryBlobID, format.KopiaBlobCfgBlobID} {
		if gone := os.Remove(filepath.Join(cache, string(id))); !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}
