package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/test/csidriver/internal/disk"
	"github.com/godwit-io/godwit/test/csidriver/internal/store"
)

const (
	// cutPatience is how long a cut of several devices waits for a moment in
	// which none of them is written; applications on frozen filesystems wait too.
	cutPatience = 10 * time.Second
	cutPause    = time.Millisecond
)

// member is one volume of a cut and the image to make of it.
type member struct{ volume, target string }

// cut copies its members at one moment, which it returns. Filesystems, mounted
// in whichever namespace, stand still from before the first copy until after
// the last. A device that pods write directly cannot be stopped: one of them
// is copied while all else stands still; several are copied until none of them
// was written between the first copy and the last.
func (d *Driver) cut(ctx context.Context, members []member) (time.Time, error) {
	taken, err := d.cutStill(ctx, members)
	if err != nil {
		return taken, err
	}
	// Pods go on already.
	for _, m := range members {
		if err := disk.SyncFile(m.target); err != nil {
			return taken, err
		}
	}
	return taken, nil
}

func (d *Driver) cutStill(ctx context.Context, members []member) (_ time.Time, err error) {
	members = slices.Clone(members)
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.volume, b.volume) })
	for _, m := range members {
		lock, err := d.store.LockVolume(ctx, m.volume)
		if err != nil {
			return time.Time{}, err
		}
		defer lock.Unlock()
	}
	var running []disk.Loop
	for _, m := range members {
		if err := d.pack(ctx, m.volume); err != nil {
			return time.Time{}, err
		}
		frozen, loops, ferr := d.still(m.volume)
		if frozen != nil {
			defer func() { err = errors.Join(err, frozen.Thaw()) }()
		}
		if ferr != nil {
			return time.Time{}, fmt.Errorf("volume %s: %w", m.volume, ferr)
		}
		running = append(running, loops...)
	}
	return d.copyStill(ctx, members, running)
}

// still freezes the filesystem of a volume, or else writes out what the kernel
// caches for it and returns the loops that can still be written.
func (d *Driver) still(volume string) (*disk.Frozen, []disk.Loop, error) {
	loops, err := d.loops(volume)
	if err != nil {
		return nil, nil, err
	}
	var running []disk.Loop
	for _, l := range loops {
		if l.ReadOnly {
			continue
		}
		frozen, err := disk.Freeze(l)
		if err != nil {
			return nil, nil, err
		}
		if err := disk.SyncLoop(l); err != nil {
			return frozen, nil, err
		}
		if frozen != nil {
			return frozen, nil, nil
		}
		running = append(running, l)
	}
	return nil, running, nil
}

func (d *Driver) copyStill(ctx context.Context, members []member, running []disk.Loop) (time.Time, error) {
	if len(running) < 2 {
		return time.Now(), d.copyAll(members)
	}
	ctx, cancel := context.WithTimeout(ctx, cutPatience)
	defer cancel()
	pause := time.NewTicker(cutPause)
	defer pause.Stop()
	for {
		taken, done, err := d.tryCopy(members, running)
		if done || err != nil {
			return taken, err
		}
		select {
		case <-ctx.Done():
			return taken, status.Error(codes.Aborted, "the block volumes of the group are written without a pause: no common moment was found, try again")
		case <-pause.C:
		}
	}
}

// tryCopy copies, and tells whether nothing was written meanwhile.
func (d *Driver) tryCopy(members []member, running []disk.Loop) (taken time.Time, done bool, err error) {
	before, quiet, err := writesOf(running)
	if err != nil || !quiet {
		return taken, false, err
	}
	if err := d.copyAll(members); err != nil {
		return taken, false, err
	}
	taken = time.Now()
	after, quiet, err := writesOf(running)
	return taken, quiet && slices.Equal(before, after), err
}

func (d *Driver) copyAll(members []member) error {
	for _, m := range members {
		if err := d.cloneImage(d.store.Image(store.Volumes, m.volume), m.target); err != nil {
			return err
		}
	}
	return nil
}

// writesOf reads the counters of loops and whether no write is under way.
func writesOf(loops []disk.Loop) ([]disk.Writes, bool, error) {
	all := make([]disk.Writes, len(loops))
	quiet := true
	for i, l := range loops {
		w, err := disk.LoopWrites(l)
		if err != nil {
			return nil, false, err
		}
		all[i] = w
		quiet = quiet && w.InFlight == 0
	}
	return all, quiet, nil
}

// cloneImage clones, and says so loudly where that means to copy every byte.
func (d *Driver) cloneImage(source, target string) error {
	shared, err := disk.Clone(source, target)
	if err != nil {
		return err
	}
	if !shared {
		d.log.Warn("THE STATE FOLDER IS NOT ON A REFLINK FILESYSTEM: every byte was copied, and a block volume that was written meanwhile is not of one moment; use xfs with reflink=1",
			"image", source)
	}
	return nil
}
