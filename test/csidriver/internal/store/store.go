package store

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ErrNotFound means that there is no such record.
var ErrNotFound = errors.New("not found")

// Store is the state folder.
type Store struct{ dir string }

// Open makes the folders that are missing.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	for _, sub := range []string{string(Volumes), string(Snapshots), string(Groups), "nodes", "locks"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("state folder: %w", err)
		}
	}
	return &Store{dir: dir}, nil
}

// Dir is the state folder.
func (s *Store) Dir() string { return s.dir }

// Folder is where a record and its image are.
func (s *Store) Folder(k Kind, id string) string { return filepath.Join(s.dir, string(k), id) }

// Image is the path of the image of a volume or a snapshot.
func (s *Store) Image(k Kind, id string) string { return filepath.Join(s.Folder(k, id), "data") }

// Tree is the path of the folder of a shared volume.
func (s *Store) Tree(id string) string { return filepath.Join(s.Folder(Volumes, id), "tree") }

// NewID makes the folder for something with that name and returns its ID. IDs
// are never used twice, for a snapshot that comes back under the ID of one that
// went would be taken for it.
func (s *Store) NewID(k Kind, name string) (string, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("new id: %w", err)
	}
	id := namePrefix(k, name) + hex.EncodeToString(b[:])
	if err := os.Mkdir(s.Folder(k, id), 0o700); err != nil {
		return "", fmt.Errorf("new id: %w", err)
	}
	return id, nil
}

func namePrefix(k Kind, name string) string {
	sum := sha256.Sum256([]byte(name))
	return k.prefix() + "-" + hex.EncodeToString(sum[:8]) + "-"
}

// nameLock is the lock of the name that an ID was made for.
func nameLock(k Kind, id string) string {
	if i := strings.LastIndexByte(id, '-'); i >= 0 {
		id = id[:i+1]
	}
	return string(k) + "-" + id
}

// FindByName fills record with the one of that name, or returns ErrNotFound;
// debris of the same name is removed on the way. The caller holds LockName.
func (s *Store) FindByName(name string, record Record) error {
	k := record.kind()
	dirs, err := filepath.Glob(s.Folder(k, namePrefix(k, name)+"*"))
	if err != nil {
		return fmt.Errorf("find %s by name: %w", k, err)
	}
	for _, dir := range dirs {
		id := filepath.Base(dir)
		err := s.Read(id, record)
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove debris: %w", err)
		}
	}
	return fmt.Errorf("%s named %q: %w", k, name, ErrNotFound)
}

// Read fills record, or returns ErrNotFound.
func (s *Store) Read(id string, record Record) error {
	k := record.kind()
	if id == "" || id != filepath.Base(id) || strings.HasPrefix(id, ".") {
		return fmt.Errorf("%s %q: %w", k, id, ErrNotFound)
	}
	b, err := os.ReadFile(filepath.Join(s.Folder(k, id), k.file()))
	// ENAMETOOLONG and the like: no record can have such an ID.
	var bad *os.PathError
	if errors.Is(err, os.ErrNotExist) || (len(id) > 200 && errors.As(err, &bad)) {
		return fmt.Errorf("%s %q: %w", k, id, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	if err := json.Unmarshal(b, record); err != nil {
		return fmt.Errorf("record of %s %s: %w", k, id, err)
	}
	return nil
}

// Write makes a record durable, whole or not at all.
func (s *Store) Write(record Record) error {
	k, id := record.kind(), record.id()
	b, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return fmt.Errorf("record of %s %s: %w", k, id, err)
	}
	return writeFile(filepath.Join(s.Folder(k, id), k.file()), b)
}

// Remove forgets a record, then removes what it described.
func (s *Store) Remove(k Kind, id string) error {
	dir := s.Folder(k, id)
	if err := os.Remove(filepath.Join(dir, k.file())); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove record: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove %s %s: %w", k, id, err)
	}
	return nil
}

// IDs lists what has a record, in order.
func (s *Store) IDs(k Kind) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(s.dir, string(k), "*", k.file()))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", k, err)
	}
	ids := make([]string, len(files))
	for i, f := range files {
		ids[i] = filepath.Base(filepath.Dir(f))
	}
	return ids, nil
}

// Debris lists the folders that have no record, with the lock to hold while
// looking again and removing them.
func (s *Store) Debris(k Kind) (map[string]string, error) {
	dirs, err := os.ReadDir(filepath.Join(s.dir, string(k)))
	if err != nil {
		return nil, fmt.Errorf("list debris: %w", err)
	}
	found := map[string]string{}
	for _, d := range dirs {
		if _, err := os.Stat(filepath.Join(s.Folder(k, d.Name()), k.file())); errors.Is(err, os.ErrNotExist) {
			found[d.Name()] = nameLock(k, d.Name())
		}
	}
	return found, nil
}

// AddNode notes that a node runs the driver.
func (s *Store) AddNode(node string) error {
	return writeFile(filepath.Join(s.dir, "nodes", node), nil)
}

// HasNode tells whether a node ever ran the driver.
func (s *Store) HasNode(node string) (bool, error) {
	if node != filepath.Base(node) || len(node) > 200 {
		return false, nil
	}
	_, err := os.Stat(filepath.Join(s.dir, "nodes", node))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Stage notes that a node holds a volume.
func (s *Store) Stage(volume, node string) error {
	dir := filepath.Join(s.Folder(Volumes, volume), "stages")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("stage note: %w", err)
	}
	return writeFile(filepath.Join(dir, node), nil)
}

// Unstage takes the note back; there may be none.
func (s *Store) Unstage(volume, node string) error {
	err := os.Remove(filepath.Join(s.Folder(Volumes, volume), "stages", node))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("stage note: %w", err)
	}
	return nil
}

// StagedOn lists the nodes that hold a volume.
func (s *Store) StagedOn(volume string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.Folder(Volumes, volume), "stages"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("stage notes: %w", err)
	}
	nodes := make([]string, 0, len(entries))
	for _, e := range entries {
		nodes = append(nodes, e.Name())
	}
	return nodes, nil
}

// Formatting is the mark of a format that has begun; while it stands, the
// image holds at most a part of a filesystem and no data.
func (s *Store) Formatting(volume string) string {
	return filepath.Join(s.Folder(Volumes, volume), "formatting")
}

// writeFile replaces a file so that a crash leaves the old or the new one.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
