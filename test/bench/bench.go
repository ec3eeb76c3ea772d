package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A round takes so many sizes of the image on the disk, and this beside them.
const (
	imagesOnDisk = 4
	besideImages = 2 * gib
)

// bench is one benchmark under way.
type bench struct {
	settings
	tools   tools
	gateway *gateway
	godwit  *godwit
	// made says that the working folder is ours to remove.
	made bool
	// begun is when everything did.
	begun time.Time
	// absent are the peers that do not take part, and why.
	absent map[string]string
}

func newBench(ctx context.Context, s settings) (_ *bench, err error) {
	b := &bench{settings: s, absent: map[string]string{}, begun: time.Now()}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.tools.top, err = findTop(); err != nil {
		return nil, err
	}
	if b.dir == "" {
		b.made = true
		if b.dir, err = os.MkdirTemp("", "godwit-bench-"); err != nil {
			return nil, fmt.Errorf("make a working folder: %w", err)
		}
	}
	b.tools.out = filepath.Join(b.dir, "bin")
	for _, dir := range []string{b.tools.out, b.profiles} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, fmt.Errorf("make a working folder: %w", err)
		}
	}
	if err := b.room(); err != nil {
		return nil, err
	}
	if b.gateway, err = startGateway(ctx, b.dir); err != nil {
		return nil, err
	}
	binary, err := b.tools.build(ctx, "godwitctl", "./cmd/godwitctl", "")
	b.godwit = &godwit{binary: binary, dir: b.dir, profiles: b.profiles, gateway: b.gateway}
	return b, err
}

func (b *bench) close() {
	var err error
	if b.gateway != nil {
		err = b.gateway.stop()
	}
	if b.made && !b.keep {
		err = errors.Join(err, os.RemoveAll(b.dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

func (b *bench) measure(ctx context.Context) (*result, error) {
	r := &result{Machine: describeMachine(), Size: b.size, Absent: b.absent, Note: b.note}
	if b.rounds > 0 {
		if err := b.compare(ctx, r); err != nil {
			return nil, err
		}
	}
	for _, size := range b.growth {
		p, err := b.grow(ctx, size)
		if err != nil {
			return nil, fmt.Errorf("growth at %s: %w", sizeText(size), err)
		}
		r.Growth = append(r.Growth, p)
	}
	return r, nil
}

// compare runs all rounds.
func (b *bench) compare(ctx context.Context, r *result) error {
	dir := filepath.Join(b.dir, "source")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make a folder for the image: %w", err)
	}
	b.say("make an image of %s", sizeText(b.size))
	i, err := makeImage(b.dir, b.size)
	if err != nil {
		return err
	}
	// Kopia stores a folder, which shall hold the image only.
	if err := os.Rename(i.path, filepath.Join(dir, "volume.img")); err != nil {
		return err
	}
	i.path = filepath.Join(dir, "volume.img")
	b.godwit.image = i
	peers := b.assemble(ctx, i)
	var took time.Duration
	for round := range b.rounds {
		if round > 0 && b.within > 0 && time.Since(b.begun)+took > b.within {
			b.say("no more than %d rounds: another would not end within %s", round, b.within)
			break
		}
		load, err := loadAverage()
		if err != nil {
			return err
		}
		begun := time.Now()
		if err := b.round(ctx, r, i, peers, round); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		took = max(took, time.Since(begun))
		r.Loads, r.Rounds = append(r.Loads, load), round+1
	}
	return nil
}

// room fails early where the disk is too small for what a round leaves on it:
// the image, two copies that are brought forward, and what all have stored.
func (b *bench) room() error {
	need := int64(0)
	if b.rounds > 0 {
		need = b.size*imagesOnDisk + besideImages
	}
	var st unix.Statfs_t
	if err := unix.Statfs(b.dir, &st); err != nil {
		return &os.PathError{Op: "measure", Path: b.dir, Err: err}
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fmt.Errorf("%s has %s free, and an image of %s takes %s: choose a smaller one, or another folder with -dir", b.dir, sizeText(free), sizeText(b.size), sizeText(need))
	}
	return nil
}

// assemble builds those that take part. One that cannot be built is left out,
// and the result says why.
func (b *bench) assemble(ctx context.Context, i *image) []peer {
	makers := map[string]func() (peer, error){
		kopiaName: func() (peer, error) {
			b.say("build kopia")
			binary, err := b.tools.build(ctx, "kopia", "github.com/kopia/kopia", ".tools/kopia/go.mod")
			return &kopia{binary: binary, dir: b.dir, gateway: b.gateway, image: i}, err
		},
		resticName: func() (peer, error) { return newRestic(ctx, b.dir, b.gateway, i) },
		rsyncName:  func() (peer, error) { return newRsync(ctx, b.dir, i) },
		veleroName: func() (peer, error) { return b.newVelero(ctx, i) },
		rawName: func() (peer, error) {
			self, err := os.Executable()
			return &raw{self: self, gateway: b.gateway, image: i, held: b.godwit.restored}, err
		},
	}
	peers := []peer{b.godwit}
	for _, name := range b.peers {
		make, known := makers[name]
		if !known {
			b.absent[name] = "it is not known"
			continue
		}
		p, err := make()
		if err != nil {
			b.absent[name] = err.Error()
			b.say("%s does not take part: %v", name, err)
			continue
		}
		peers = append(peers, p)
	}
	return peers
}

// round runs everything once, operation by operation.
func (b *bench) round(ctx context.Context, r *result, i *image, peers []peer, round int) error {
	if err := i.become(0); err != nil {
		return err
	}
	for _, p := range peers {
		if err := p.prepare(ctx, round); err != nil {
			return fmt.Errorf("prepare %s: %w", p.name(), err)
		}
	}
	for _, step := range []struct {
		version int
		ops     []operation
	}{
		{0, []operation{fullUpload, restore}},
		{1, []operation{deltaKnown, apply, verify, reconcile, unchanged, opening}},
		{2, []operation{deltaScan}},
	} {
		if err := i.become(step.version); err != nil {
			return err
		}
		for _, op := range step.ops {
			// Raw needs what Godwit stored, so Godwit is always the first.
			for _, p := range peers {
				if err := b.one(ctx, r, i, p, op, round); err != nil {
					return err
				}
			}
		}
	}
	return b.tidy(round)
}

func (b *bench) one(ctx context.Context, r *result, i *image, p peer, op operation, round int) error {
	if err := b.gateway.count(&measure{}); err != nil {
		return err
	}
	// What others left to be written would be written in this one's time.
	unix.Sync()
	// Nor does one read from memory what the one before it read from the disk.
	for _, path := range []string{i.path, p.restored(), b.godwit.restored()} {
		if err := evict(path); err != nil {
			return err
		}
	}
	m, err := p.run(ctx, op)
	if errors.Is(err, errNotServed) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", p.name(), op, err)
	}
	if err := b.gateway.count(&m); err != nil {
		return err
	}
	if writes(op) {
		took, err := settle(p.restored())
		if err != nil {
			return err
		}
		m.Wall += took.Seconds()
	}
	b.say("round %d  %-32s %-7s %8.2f s  %7.2f s CPU  %5d MiB  %5d requests  %9s sent", round+1, op, p.name(), m.Wall, m.CPU, m.Memory/mib, m.Requests, sizeText(m.Sent))
	r.Runs = append(r.Runs, runOf{Round: round, Operation: op, Peer: p.name(), measure: m})
	if writes(op) {
		if err := sameContent(i.path, p.restored()); err != nil {
			return fmt.Errorf("%s: %s gave other bytes than the source has: %w", p.name(), op, err)
		}
	}
	return b.discard(p, op, round)
}

// writes says whether an operation writes a volume.
func writes(op operation) bool { return op == restore || op == apply || op == reconcile }

// settle waits until a file is on the disk, as Godwit does itself before it says that a
// volume is restored. A peer without a file has nothing to wait for.
func settle(path string) (took time.Duration, err error) {
	if path == "" {
		return 0, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	begun := time.Now()
	if err := f.Sync(); err != nil {
		return 0, fmt.Errorf("wait for %s to be on the disk: %w", path, err)
	}
	return time.Since(begun), nil
}

// discard removes what nothing comes after, since all together takes half as
// much again: restored copies but Godwit's and rsync's, which they bring
// forward, and what was stored by those who store no more.
func (b *bench) discard(p peer, op operation, round int) error {
	switch name := p.name(); {
	case name == rawName && op == restore, name == veleroName && op == deltaKnown:
		return os.RemoveAll(filepath.Join(b.gateway.root, bucket, fmt.Sprintf("%s-%d", name, round)))
	case (name == kopiaName || name == resticName) && (op == restore || op == apply):
		return os.Remove(p.restored())
	}
	return nil
}

// tidy removes what a round left behind.
func (b *bench) tidy(round int) error {
	var err error
	for _, pattern := range []string{"store/" + bucket + "/*-%d", "*/%d"} {
		found, bad := filepath.Glob(filepath.Join(b.dir, fmt.Sprintf(pattern, round)))
		err = errors.Join(err, bad)
		for _, dir := range found {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}

// evict drops a file that is on the disk from the page cache; one that is not there has
// nothing to drop.
func evict(path string) (err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("drop %s from the page cache: %w", path, err)
	}
	return nil
}

// sameContent compares two files; a peer without a file has nothing to compare.
func sameContent(a, b string) (err error) {
	if b == "" {
		return nil
	}
	files := [2]*os.File{}
	for i, name := range []string{a, b} {
		if files[i], err = os.Open(name); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, files[i].Close()) }()
	}
	bufs := [2][]byte{make([]byte, mib), make([]byte, mib)}
	for at := int64(0); ; at += mib {
		var n [2]int
		for i := range files {
			if n[i], err = files[i].ReadAt(bufs[i], at); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		if n[0] != n[1] || !bytes.Equal(bufs[0][:n[0]], bufs[1][:n[1]]) {
			return fmt.Errorf("they differ near byte %d", at)
		}
		if n[0] < mib {
			return nil
		}
	}
}

// say tells how far the bench is.
func (b *bench) say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
