package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// JournalFile is a Journal in a file of that path. Its folder must be there,
// and on storage that outlives the process.
type JournalFile string

var _ Journal = JournalFile("")

// Load reads it.
func (f JournalFile) Load(context.Context) ([]byte, error) {
	data, err := os.ReadFile(string(f))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Save writes another file and puts it in this one's place, so that a reader
// finds one entry or the other.
func (f JournalFile) Save(_ context.Context, entry []byte) (err error) {
	dir := filepath.Dir(string(f))
	next, err := os.CreateTemp(dir, filepath.Base(string(f))+".next-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(next.Name()))
		}
	}()
	_, err = next.Write(entry)
	if err == nil {
		err = next.Sync()
	}
	if err = errors.Join(err, next.Close()); err != nil {
		return err
	}
	if err := os.Rename(next.Name(), string(f)); err != nil {
		return err
	}
	return syncFolder(dir)
}

// Clear removes it.
func (f JournalFile) Clear(context.Context) error {
	err := os.Remove(string(f))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(string(f)))
}

func syncFolder(path string) error {
	dir, err := os.Open(path) //nolint:gosec // the caller said where the journal is
	if err != nil {
		return err
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("make folder %s durable: %w", path, err)
	}
	return nil
}
