package kopiastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/kopia/kopia/repo/object"
)

// keptBlobs are the folders of kopia's cache that hold what the repository
// does, as it came.
func keptBlobs() []string { return []string{"contents", "metadata", "index-blobs"} }

// sure does it again without the cache where what it read was damaged: kopia
// keeps what came before it looks at it, so that one bad answer would come
// back for as long as the cache lives.
func (r *Repository) sure(ctx context.Context, do func() error) error {
	err := do()
	if !unreadable(err) || ctx.Err() != nil {
		return err
	}
	if forgotten := r.forgetCached(); forgotten != nil {
		return errors.Join(err, forgotten)
	}
	return do()
}

func (r *Repository) forgetCached() error {
	for _, name := range keptBlobs() {
		if err := empty(filepath.Join(r.cache, name)); err != nil {
			return fmt.Errorf("forget what is cached: %w", err)
		}
	}
	return nil
}

// unreadable tells damaged bytes from all else that may be wrong; kopia has no
// error values for them.
func unreadable(err error) bool {
	if err == nil || otherPassword(err) {
		return false
	}
	text := err.Error()
	for _, sign := range []string{"decrypt", "invalid checksum", "decompress", "invalid indirect object", "unable to open pack index", "malformed"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// readObject reads an object of kopia's metadata, or a small one.
func (r *Repository) readObject(ctx context.Context, id object.ID) (data []byte, err error) {
	err = r.sure(ctx, func() error {
		data, err = readObject(ctx, r.rep, id)
		return err
	})
	return data, err
}

// readIndirect reads the index behind an object id.
func (r *Repository) readIndirect(ctx context.Context, id object.ID, length int64) (entries []object.IndirectObjectEntry, err error) {
	err = r.sure(ctx, func() error {
		entries, err = readIndirect(ctx, r.rep, id, length)
		return err
	})
	return entries, err
}

// openObject opens one to be read from its start.
func (r *Repository) openObject(ctx context.Context, id object.ID) (or object.Reader, err error) {
	err = r.sure(ctx, func() error {
		or, err = r.rep.OpenObject(ctx, id)
		return err
	})
	return or, err
}

// sureReader reads an object from its start, whatever its size, as sure reads small ones.
type sureReader struct {
	ctx        context.Context //nolint:containedctx // io.Reader has none
	repository *Repository
	id         object.ID
	open       object.Reader
	at         int64
}

func (s *sureReader) Read(p []byte) (n int, err error) {
	err = s.repository.sure(s.ctx, func() error {
		n, err = s.read(p)
		return err
	})
	return n, err
}

func (s *sureReader) read(p []byte) (n int, err error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	if s.open == nil {
		if s.open, err = s.repository.rep.OpenObject(s.ctx, s.id); err != nil {
			return 0, err
		}
		if _, err := s.open.Seek(s.at, io.SeekStart); err != nil {
			return 0, errors.Join(err, s.Close())
		}
	}
	n, err = s.open.Read(p)
	s.at += int64(n)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	closing := s.Close()
	if n > 0 {
		return n, closing // The next read finds what is wrong after it.
	}
	return 0, errors.Join(err, closing)
}

// Close may be called at any time; what is read then is opened again.
func (s *sureReader) Close() error {
	if s.open == nil {
		return nil
	}
	err := s.open.Close()
	s.open = nil
	return err
}

// verifyObject tells whether all contents of an object are listed.
func (r *Repository) verifyObject(ctx context.Context, id object.ID) error {
	return r.sure(ctx, func() error {
		_, err := r.rep.VerifyObject(ctx, id)
		return err
	})
}

// empty removes what is in a folder, and leaves the folder to who uses it.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
