package snapshottest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
)

// World is a repository as histories see it.
type World struct {
	// Open connects one more client, as a process of its own would.
	Open func(t *testing.T, host string) (snapshot.Store, error)
	// Kill makes the nth change of the repository and all after it fail, for
	// all clients; zero ends that. Nil leaves kills to the engine's calls.
	Kill func(n int64)
	// Damage changes what is stored somewhere, and returns what takes it back.
	Damage func(rnd *rand.Rand) (undo func())
	// Collect removes what no image refers to; it may be nil.
	Collect func(ctx context.Context, s snapshot.Store) error
	// Chunk is the size of the histories' chunks.
	Chunk int64
}

const (
	// SeedVariable runs the history of that seed, and those before it in its repository.
	SeedVariable = "GODWIT_SEED"
	// FactorVariable runs so many times as many histories.
	FactorVariable = "GODWIT_HISTORIES"
	// historiesPerWorld bounds how much one repository gathers.
	historiesPerWorld = 25
)

// TestHistories runs so many random histories of writes, snapshots, backups,
// kills, applies, corruption, deletion and collection by two clients of one
// repository, and compares all that comes back with plain memory. Pkg is the
// package that the caller is in, for the command that repeats a failure.
func TestHistories(t *testing.T, n int, pkg string, open func(*testing.T) *World) {
	t.Helper()
	if one := os.Getenv(SeedVariable); one != "" {
		seed, err := strconv.ParseUint(one, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", SeedVariable, err)
		}
		runHistories(t, seed-seed%historiesPerWorld, seed+1, pkg, open(t))
		return
	}
	if text := os.Getenv(FactorVariable); text != "" {
		factor, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", FactorVariable, err)
		}
		n *= factor
	}
	for first := 0; first < n; first += historiesPerWorld {
		t.Run(fmt.Sprintf("from_%d", first), func(t *testing.T) {
			runHistories(t, uint64(first), uint64(min(n, first+historiesPerWorld)), pkg, open(t))
		})
	}
}

// runHistories runs those of some seeds one after the other. What one leaves in the
// repository, and in its clients' caches, the next ones find.
func runHistories(t *testing.T, from, to uint64, pkg string, w *World) {
	t.Helper()
	var clients [2]snapshot.Store
	for seed := from; seed < to; seed++ {
		clients = runHistory(t, seed, pkg, w, clients)
	}
}

// history is one under way.
type history struct {
	t       *testing.T
	rnd     *rand.Rand
	world   *World
	clients [2]snapshot.Store
	volumes [2]*model
	standby standby
	trace   []string
	repeat  string
}

// runHistory returns the clients as it leaves them, for the next.
func runHistory(t *testing.T, seed uint64, pkg string, w *World, clients [2]snapshot.Store) [2]snapshot.Store {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 7))
	name := strconv.FormatUint(seed, 10)
	top, _, _ := strings.Cut(t.Name(), "/from_")
	h := &history{
		t: t, rnd: rnd, world: w, clients: clients,
		volumes: [2]*model{newModel(rnd, "a"+name, w.Chunk), newModel(rnd, "b"+name, w.Chunk)},
		repeat:  fmt.Sprintf("%s=%d go test -count=1 -race -run '^%s$' %s", SeedVariable, seed, strings.ReplaceAll(top, "/", "$/^"), pkg),
	}
	for i := range h.clients {
		if h.clients[i] == nil {
			h.reopen(i)
		}
	}
	h.write()
	h.backup()
	for range 4 + rnd.IntN(8) {
		h.step()
	}
	h.end()
	return h.clients
}

func (h *history) fail(format string, args ...any) {
	h.t.Helper()
	h.t.Fatalf("%s\nafter: %s\nrepeat it by: %s", fmt.Sprintf(format, args...), strings.Join(h.trace, "; "), h.repeat)
}

func (h *history) note(format string, args ...any) {
	h.trace = append(h.trace, fmt.Sprintf(format, args...))
}

func (h *history) reopen(i int) {
	h.t.Helper()
	var err error
	if h.clients[i], err = h.world.Open(h.t, "host"+strconv.Itoa(i)); err != nil {
		h.fail("open: %v", err)
	}
}

func (h *history) client() snapshot.Store { return h.clients[h.rnd.IntN(len(h.clients))] }

func (h *history) model() *model { return h.volumes[h.rnd.IntN(len(h.volumes))] }

// step does one thing; writes and backups are the most of them.
func (h *history) step() {
	switch h.rnd.IntN(14) {
	case 0, 1, 2:
		h.write()
	case 3, 4:
		h.backup()
	case 5, 6:
		h.killedBackup()
	case 7:
		h.twoBackups()
	case 8:
		h.apply()
	case 9:
		h.killedApply()
	case 10:
		h.corruptVolume()
	case 11:
		h.corruptRepository()
	case 12:
		h.forget()
	case 13:
		if h.world.Collect != nil {
			h.note("collect")
			if err := h.world.Collect(h.t.Context(), h.client()); err != nil {
				h.fail("collect: %v", err)
			}
		}
	}
}

func (h *history) write() {
	m := h.model()
	h.note("write %s", m.volume.Name)
	m.mutate()
}

func (h *history) backup() {
	h.t.Helper()
	m := h.model()
	r := m.request()
	h.note("back up %s by %s from %q", m.volume.Name, r.Image.Method, r.Parent)
	image, stats, err := snapshot.Backup(h.t.Context(), r, h.client())
	if err != nil {
		h.fail("backup: %v", err)
	}
	h.check(m, r, stats)
	m.committed(image)
}

func (h *history) check(m *model, r snapshot.BackupRequest, stats snapshot.Stats) {
	h.t.Helper()
	if stats.Done != stats.Total {
		h.fail("backup did %d of %d", stats.Done, stats.Total)
	}
	if want := m.changed(m.held[r.Parent], m.data); stats.Changed != want && r.Moment == "" {
		h.fail("%s from %q: changed %d bytes, want %d", r.Image.Method, r.Parent, stats.Changed, want)
	}
}

// killedBackup is killed at any call, or any change of the repository; the
// same moment is backed up again, by a new process where the first is dead.
func (h *history) killedBackup() {
	h.t.Helper()
	m := h.model()
	r := m.request()
	if h.rnd.IntN(2) == 0 {
		r.Moment = "moment " + strconv.Itoa(m.rounds)
		r.CheckpointEvery = snapshot.CheckpointEvery{Bytes: m.chunk * int64(1+h.rnd.IntN(200))}
	}
	h.note("kill a backup of %s by %s from %q, moment %q", m.volume.Name, r.Image.Method, r.Parent, r.Moment)
	i := h.rnd.IntN(len(h.clients))
	store, dead := h.clients[i], false
	if h.world.Kill != nil && h.rnd.IntN(3) == 0 {
		h.world.Kill(int64(1 + h.rnd.IntN(9)))
		dead = true
	} else {
		store = FaultyStore{store, &Countdown{N: int64(1 + h.rnd.IntN(2*(1+len(m.data)/int(m.chunk))))}}
	}
	image, stats, err := snapshot.Backup(h.t.Context(), r, store)
	if dead {
		h.world.Kill(0)
		h.reopen(i)
	}
	if err == nil { // it had fewer calls than the fault waits for
		h.check(m, r, stats)
		m.committed(image)
		return
	}
	if !errors.Is(err, ErrInjected) && !errors.Is(err, context.Canceled) {
		h.fail("killed backup: %v", err)
	}
	if dead {
		h.takeListed(m)
	}
	r.Source = NewDevice(bytes.Clone(m.data))
	image, stats, err = snapshot.Backup(h.t.Context(), r, h.clients[i])
	if err != nil {
		h.fail("backup after a kill: %v", err)
	}
	h.check(m, r, stats)
	m.committed(image)
}

// takeListed accepts an image that was complete when its run was killed.
func (h *history) takeListed(m *model) {
	h.t.Helper()
	listed, err := h.client().Images(h.t.Context(), m.volume)
	if err != nil {
		h.fail("list after a kill: %v", err)
	}
	if len(listed) == len(m.images)+1 {
		m.committed(listed[len(listed)-1])
	}
}

// twoBackups has both clients write at once: two volumes, or one twice.
func (h *history) twoBackups() {
	h.t.Helper()
	first, second := h.volumes[0], h.volumes[h.rnd.IntN(2)]
	requests := [2]snapshot.BackupRequest{first.request(), second.request()}
	h.note("back up %s and %s at once", first.volume.Name, second.volume.Name)
	var images [2]snapshot.Image
	var errs [2]error
	var group sync.WaitGroup
	for i := range requests {
		group.Go(func() {
			images[i], _, errs[i] = snapshot.Backup(h.t.Context(), requests[i], h.clients[i])
		})
	}
	group.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		h.fail("two backups at once: %v", err)
	}
	first.committed(images[0])
	second.committed(images[1])
}

// forget removes an image; who needs it is told.
func (h *history) forget() {
	h.t.Helper()
	m := h.model()
	if len(m.images) < 2 {
		return
	}
	r := m.request()
	n := h.rnd.IntN(len(m.images))
	r.Image.Method, r.Extents, r.Parent = snapshot.MethodDelta, []snapshot.Extent{}, m.images[n].ID
	image := m.forget(n)
	h.note("forget %s of %s", image.ID, m.volume.Name)
	if err := h.client().Forget(h.t.Context(), image.ID); err != nil {
		h.fail("forget: %v", err)
	}
	if _, _, err := snapshot.Backup(h.t.Context(), r, h.client()); !errors.Is(err, snapshot.ErrNoBase) {
		h.fail("delta from a forgotten image: %v", err)
	}
	sink := NewDevice(make([]byte, len(m.held[image.ID])))
	if _, err := snapshot.Apply(h.t.Context(), snapshot.ApplyRequest{Sink: sink, To: image.ID}, h.client()); !errors.Is(err, snapshot.ErrNotFound) {
		h.fail("apply of a forgotten image: %v", err)
	}
	if h.standby.holds == image.ID {
		h.standby.holds = ""
	}
}

// end holds the lists against the model, and restores of what is listed.
func (h *history) end() {
	h.t.Helper()
	for _, m := range h.volumes {
		listed, err := h.client().Images(h.t.Context(), m.volume)
		if err != nil {
			h.fail("list: %v", err)
		}
		want := map[snapshot.ImageID]bool{}
		for _, image := range m.images {
			want[image.ID] = true
		}
		for _, image := range listed {
			if !want[image.ID] {
				h.fail("image %s is listed and was not committed, or was forgotten", image.ID)
			}
		}
		if len(listed) != len(m.images) {
			h.fail("%d images listed, %d committed", len(listed), len(m.images))
		}
		for _, i := range h.rnd.Perm(len(m.images))[:min(2, len(m.images))] {
			h.restore(m, m.images[i])
		}
	}
}

func (h *history) restore(m *model, image snapshot.Image) {
	h.t.Helper()
	want := m.held[image.ID]
	sink := NewDevice(bytes.Repeat([]byte{0xaa}, len(want)+h.rnd.IntN(1000)))
	if _, err := snapshot.Apply(h.t.Context(), snapshot.ApplyRequest{Sink: sink, To: image.ID}, h.client()); err != nil {
		h.fail("restore %s: %v", image.ID, err)
	}
	if got := sink.Bytes(); !bytes.Equal(got[:len(want)], want) || len(bytes.TrimLeft(got[len(want):], "\x00")) > 0 {
		h.fail("restoring %s gave other bytes", image.ID)
	}
}
