package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// FlipStored flips a bit in every 4 KiB of each pack of data that the sandbox's object
// store was given since, and says of how many.
func (g *Ground) FlipStored(since time.Time) (packs int, err error) {
	if g.sandbox == nil {
		return 0, errors.New("an existing object store is not ours to spoil")
	}
	err = filepath.WalkDir(filepath.Join(g.sandbox.Dir, "s3"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.HasPrefix(d.Name(), "p") {
			return err
		}
		info, err := d.Info()
		if err != nil || info.ModTime().Before(since) || info.Size() < 1<<10 {
			return err
		}
		packs++
		return flip(path, info.Size())
	})
	return packs, err
}

func flip(path string, size int64) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var b [1]byte
	for at := size / 2 % 4096; at < size; at += 4096 {
		if _, err := f.ReadAt(b[:], at); err != nil {
			return err
		}
		b[0] ^= 0x10
		if _, err := f.WriteAt(b[:], at); err != nil {
			return err
		}
	}
	return nil
}

// SpoiledAt is where SpoilLedgers spoils a volume.
const SpoiledAt = ledgerOffset + 64<<10

// SpoilLedgers keeps one byte wrong, at SpoiledAt, of what is written to volumes that
// come to the cluster's block storage, until ctx ends. It is for clusters without
// containers, whose volumes are plain files.
func (g *Ground) SpoilLedgers(ctx context.Context, c Cluster) error {
	if g.sandbox == nil || !g.sandbox.ControlPlane {
		return errors.New("only volumes of a sandbox without containers can be spoiled")
	}
	right := make([]byte, SpoiledAt-ledgerOffset+1)
	if _, err := io.ReadFull(ledgerBytes(), right); err != nil {
		return err
	}
	wrong := []byte{^right[len(right)-1]}
	volumes := filepath.Join(g.sandbox.Dir, "clusters", c.Name, "csi", "block", "volumes", "*", "data")
	old := map[string]bool{}
	before, err := filepath.Glob(volumes)
	if err != nil {
		return err
	}
	for _, path := range before {
		old[path] = true
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := filepath.Glob(volumes)
		if err != nil {
			return err
		}
		for _, path := range now {
			if old[path] {
				continue
			}
			if err := spoilOnce(path, wrong); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("spoil volume %s: %w", path, err)
			}
		}
	}
}

func spoilOnce(path string, wrong []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > SpoiledAt {
		_, err = f.WriteAt(wrong, SpoiledAt)
	}
	return errors.Join(err, f.Close())
}
