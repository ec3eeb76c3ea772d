// Package sandbox brings clusters and their object store up and down on this machine, and remembers
// which there are.
//
// A sandbox is one folder: sandbox.json (its slot, its clusters), clusters/NAME, s3, images. Several
// can stand side by side on a machine; each takes a slot, which gives it its own network.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/godwit-io/godwit/test/sandbox/internal/address"
	"github.com/godwit-io/godwit/test/sandbox/internal/cluster"
	"github.com/godwit-io/godwit/test/sandbox/internal/objectstore"
	"github.com/godwit-io/godwit/test/sandbox/internal/program"
)

// Sandbox is one sandbox.
type Sandbox struct {
	Dir      string
	Source   string // of the sandbox's own programs; found when empty
	Progress io.Writer
}

// state is what sandbox.json holds.
type state struct {
	Slot address.Slot `json:"slot"`
	// ControlPlane: the clusters run without containers and share the host's network.
	ControlPlane bool     `json:"controlPlane,omitempty"`
	Clusters     []member `json:"clusters"`
}

type member struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
	Nodes int    `json:"nodes"`
}

// DefaultDir is where a sandbox is when nobody says otherwise.
func DefaultDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/godwit-sandbox", nil
	}
	cache, err := program.CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "run"), nil
}

func (s Sandbox) path(parts ...string) string {
	return filepath.Join(append([]string{s.Dir}, parts...)...)
}

func (s Sandbox) load() (*state, error) {
	b, err := os.ReadFile(s.path("sandbox.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no state: never up
	}
	if err != nil {
		return nil, err
	}
	var st state
	if err := json.Unmarshal(b, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", s.path("sandbox.json"), err)
	}
	return &st, nil
}

func (s Sandbox) save(st *state) error {
	b, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	tmp := s.path("sandbox.json.new")
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, s.path("sandbox.json"))
}

// add records the clusters of these names; those it has keep their place.
func (st *state) add(names []string, nodes int) error {
	for _, name := range names {
		if !regexp.MustCompile(`^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$`).MatchString(name) {
			return fmt.Errorf("cluster name %q: use lower case letters, digits and dashes, at most 32", name)
		}
		if m := st.find(name); m != nil {
			if nodes != 0 && m.Nodes != nodes {
				return fmt.Errorf("cluster %s has %d node(s), not %d: remove it first with sandbox down --purge %s", name, m.Nodes, nodes, name)
			}
			continue
		}
		index := 0
		for st.taken(index) {
			index++
		}
		if index >= address.MaxClusters {
			return fmt.Errorf("a sandbox has at most %d clusters: remove one with sandbox down --purge", address.MaxClusters)
		}
		st.Clusters = append(st.Clusters, member{Name: name, Index: index, Nodes: max(nodes, 1)})
	}
	return nil
}

func (st *state) find(name string) *member {
	for i := range st.Clusters {
		if st.Clusters[i].Name == name {
			return &st.Clusters[i]
		}
	}
	return nil
}

func (st *state) taken(index int) bool {
	for _, m := range st.Clusters {
		if m.Index == index {
			return true
		}
	}
	return false
}

// filer is the folder of what all clusters share.
const filer = "filer"

func (s Sandbox) cluster(st *state, m member) cluster.Cluster {
	return cluster.Cluster{
		Name: m.Name, Nodes: m.Nodes, ControlPlane: st.ControlPlane, Dir: s.path("clusters", m.Name),
		Place: address.Cluster{Slot: st.Slot, Index: m.Index}, Filer: s.path(filer),
	}
}

func (s Sandbox) store(st *state) objectstore.Store {
	address := st.Slot.Host().String() + ":7070"
	if st.ControlPlane {
		address = fmt.Sprintf("127.0.0.1:%d", st.Slot.LoopbackStorePort())
	}
	return objectstore.Store{Dir: s.path("s3"), Address: address}
}

// Cluster finds a recorded cluster.
func (s Sandbox) Cluster(name string) (cluster.Cluster, error) {
	st, err := s.load()
	if err != nil {
		return cluster.Cluster{}, err
	}
	if st != nil {
		if m := st.find(name); m != nil {
			return s.cluster(st, *m), nil
		}
	}
	return cluster.Cluster{}, fmt.Errorf("no cluster %q in %s: make it with sandbox up --clusters %[1]s", name, s.Dir)
}

// Clusters lists the recorded clusters.
func (s Sandbox) Clusters() ([]cluster.Cluster, error) {
	st, err := s.load()
	if err != nil || st == nil {
		return nil, err
	}
	var all []cluster.Cluster
	for _, m := range st.Clusters {
		all = append(all, s.cluster(st, m))
	}
	return all, nil
}

// Store finds the object store.
func (s Sandbox) Store() (objectstore.Store, error) {
	st, err := s.load()
	if err != nil {
		return objectstore.Store{}, err
	}
	if st == nil {
		return objectstore.Store{}, fmt.Errorf("no sandbox in %s: run sandbox up", s.Dir)
	}
	return s.store(st), nil
}

// lock keeps two runs from changing the same sandbox at once.
func (s Sandbox) lock(ctx context.Context) (func(), error) {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for told := false; ; {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !told {
			fmt.Fprintf(s.Progress, "waiting: another sandbox command works in %s\n", s.Dir)
			told = true
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}
