package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/godwit-io/godwit/test/sandbox/internal/cluster"
	"github.com/godwit-io/godwit/test/sandbox/internal/debian"
	"github.com/godwit-io/godwit/test/sandbox/internal/node"
	"github.com/godwit-io/godwit/test/sandbox/internal/program"
)

// upTimeout is for starting, not for building.
const upTimeout = 4 * time.Minute

// Parts are what a sandbox is started from.
type Parts struct {
	Programs program.Programs
	CRDs     []string
}

// Build builds what the cache lacks.
func (s Sandbox) Build(ctx context.Context) (Parts, error) {
	source, err := program.FindSource(s.Source)
	if err != nil {
		return Parts{}, err
	}
	cache, err := program.CacheDir()
	if err != nil {
		return Parts{}, err
	}
	b := program.Builder{Source: source, Cache: cache, Progress: s.Progress}
	var p Parts
	if p.Programs, err = b.All(ctx); err != nil {
		return Parts{}, err
	}
	p.CRDs, err = b.CRDs(ctx)
	return p, err
}

// Wish is what to bring up.
type Wish struct {
	Clusters     []string
	Nodes        int  // of each new cluster; 0: as it was, or one
	ControlPlane bool // without containers
}

// Up brings up clusters and the object store.
func (s Sandbox) Up(ctx context.Context, w Wish) error {
	if !w.ControlPlane {
		if err := node.Able(ctx); err != nil {
			return fmt.Errorf("this machine cannot run nodes: %w; --control-plane works without, and has API servers but no containers", err)
		}
	}
	if err := debian.EnsureTools(ctx, w.ControlPlane, s.Progress); err != nil {
		return err
	}
	parts, err := s.Build(ctx)
	if err != nil {
		return err
	}
	if !w.ControlPlane {
		if parts.Programs["containerd"], err = exec.LookPath("containerd"); err != nil {
			return err
		}
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	st, err := s.prepare(ctx, w)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	return s.startAll(ctx, st, w.Clusters, parts)
}

// prepare records the clusters and makes the network they share.
func (s Sandbox) prepare(ctx context.Context, w Wish) (*state, error) {
	st, err := s.load()
	if err != nil {
		return nil, err
	}
	known := st != nil
	if !known {
		st = &state{ControlPlane: w.ControlPlane}
	}
	if st.ControlPlane != w.ControlPlane {
		return nil, fmt.Errorf("the sandbox in %s is of the other kind (%s--control-plane): remove it with sandbox down --purge, or choose another --dir", s.Dir, map[bool]string{false: "without "}[st.ControlPlane])
	}
	if w.ControlPlane && w.Nodes > 1 {
		return nil, errors.New("--control-plane has one node in each cluster")
	}
	if err := st.add(w.Clusters, w.Nodes); err != nil {
		return nil, err
	}
	if err := s.claimSlot(st, known); err != nil {
		return nil, err
	}
	if err := s.save(st); err != nil {
		return nil, err
	}
	if err := ensureBridge(ctx, st); err != nil {
		return nil, err
	}
	if w.ControlPlane {
		return st, nil
	}
	return st, raiseWatches()
}

func (s Sandbox) startAll(ctx context.Context, st *state, names []string, parts Parts) error {
	var images []string
	if !st.ControlPlane {
		var err error
		if images, err = s.firstImages(parts.Programs); err != nil {
			return err
		}
	}
	store := s.store(st)
	store.Program = parts.Programs["versitygw"]
	errs := make([]error, len(names)+1)
	var all sync.WaitGroup
	all.Go(func() { errs[len(names)] = store.Start(ctx) })
	for i, name := range names {
		c := s.cluster(st, *st.find(name))
		c.Programs, c.CRDs, c.Images = parts.Programs, parts.CRDs, images
		all.Go(func() { errs[i] = c.Up(ctx, s.Progress) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Down ends the clusters of these names (none: all) and, with the last, the object store and the
// network. With purge their state goes too.
func (s Sandbox) Down(ctx context.Context, names []string, purge bool) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	st, err := s.load()
	if err != nil || st == nil {
		return err
	}
	if len(names) == 0 {
		for _, m := range st.Clusters {
			names = append(names, m.Name)
		}
	}
	if os.Geteuid() != 0 && !st.ControlPlane {
		return errors.New("needs root, as sandbox up did")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := s.stopAll(ctx, st, names); err != nil {
		return err
	}
	if err := s.stopShared(ctx, st); err != nil {
		return err
	}
	if purge {
		return s.purge(st, names)
	}
	return nil
}

func (s Sandbox) stopAll(ctx context.Context, st *state, names []string) error {
	errs := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		m := st.find(name)
		if m == nil {
			return fmt.Errorf("no cluster %q in %s", name, s.Dir)
		}
		c := s.cluster(st, *m)
		all.Go(func() {
			if errs[i] = c.Down(ctx); errs[i] == nil {
				fmt.Fprintf(s.Progress, "%s: down\n", c.Name)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// stopShared ends what clusters share, when no cluster runs.
func (s Sandbox) stopShared(ctx context.Context, st *state) error {
	for _, m := range st.Clusters {
		if c := s.cluster(st, m); c.Running() > 0 {
			return nil
		}
	}
	if err := s.store(st).Stop(ctx); err != nil {
		return err
	}
	return removeBridge(ctx, st)
}

// purge forgets the clusters; the last takes the whole sandbox with it.
func (s Sandbox) purge(st *state, names []string) error {
	var rest []member
	for _, m := range st.Clusters {
		gone := false
		for _, n := range names {
			gone = gone || n == m.Name
		}
		if !gone {
			rest = append(rest, m)
		}
	}
	for _, n := range names {
		if err := os.RemoveAll(s.path("clusters", n)); err != nil {
			return err
		}
	}
	st.Clusters = rest
	if len(rest) > 0 {
		return s.save(st)
	}
	for _, p := range []string{"clusters", filer, "s3", "images", "sandbox.json", "lock"} {
		if err := os.RemoveAll(s.path(p)); err != nil {
			return err
		}
	}
	// Not RemoveAll: what somebody else has put there is not ours.
	_ = os.Remove(s.Dir)
	return nil
}

// Load gives image archives to all nodes of the clusters of these names (none: all that run).
func (s Sandbox) Load(ctx context.Context, names, archives []string) error {
	clusters, err := s.Clusters()
	if err != nil {
		return err
	}
	var targets []cluster.Cluster
	for _, c := range clusters {
		wanted := len(names) == 0 && c.Running() > 0
		for _, n := range names {
			wanted = wanted || n == c.Name
		}
		if wanted {
			targets = append(targets, c)
		}
	}
	if len(targets) == 0 {
		return errors.New("no cluster runs to load images into: run sandbox up")
	}
	errs := make([]error, len(targets))
	var all sync.WaitGroup
	for i, c := range targets {
		all.Go(func() { errs[i] = s.loadInto(ctx, c, archives) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (s Sandbox) loadInto(ctx context.Context, c cluster.Cluster, archives []string) error {
	for _, a := range archives {
		archive, err := filepath.Abs(a)
		if err != nil {
			return err
		}
		n, err := c.Load(ctx, archive)
		if err != nil {
			return err
		}
		if n > 0 {
			fmt.Fprintf(s.Progress, "%s: loaded %s\n", c.Name, filepath.Base(a))
		} else {
			fmt.Fprintf(s.Progress, "%s: has %s already\n", c.Name, filepath.Base(a))
		}
	}
	return nil
}

// ProgramsDir is the folder of the built Kubernetes programs, kubectl among them.
func (s Sandbox) ProgramsDir() (string, error) {
	source, err := program.FindSource(s.Source)
	if err != nil {
		return "", err
	}
	cache, err := program.CacheDir()
	if err != nil {
		return "", err
	}
	return program.Builder{Source: source, Cache: cache}.Dir("kube")
}
