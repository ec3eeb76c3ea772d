package driver

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/godwit-io/godwit/test/csidriver/internal/disk"
	"github.com/godwit-io/godwit/test/csidriver/internal/store"
)

// Flavor is what a storage can do.
type Flavor struct {
	// Blocks: volumes are images, published as devices or filesystems. Without
	// it they are folders that any number of nodes share.
	Blocks bool
	// Snapshots: snapshots and groups of them.
	Snapshots bool
	// ChangedBlocks: the SnapshotMetadata service.
	ChangedBlocks bool
}

// ParseFlavor knows block-cbt, block, nosnap and shared.
func ParseFlavor(name string) (Flavor, error) {
	switch name {
	case "block-cbt":
		return Flavor{Blocks: true, Snapshots: true, ChangedBlocks: true}, nil
	case "block":
		return Flavor{Blocks: true, Snapshots: true}, nil
	case "nosnap":
		return Flavor{Blocks: true}, nil
	case "shared":
		return Flavor{}, nil
	default:
		return Flavor{}, fmt.Errorf("flavor %q is not known: use block-cbt, block, nosnap or shared", name)
	}
}

// Config is what a run is started with.
type Config struct {
	// Name of the driver, as StorageClasses name it.
	Name string
	// Version is told by GetPluginInfo.
	Version string
	// NodeID is this node; needed for the node service.
	NodeID string
	// StateDir holds records and images; all nodes of a cluster share it.
	StateDir string
	Flavor   Flavor
	// Controller and Node choose the services to run.
	Controller, Node bool
	// Topology binds each volume to the node that it was made for.
	Topology bool
	// SingleNodeAttach refuses a volume to a second node.
	SingleNodeAttach bool
	// Plain publishes links instead of loops and mounts, which needs no root.
	Plain bool
	// Faults are lines as in the faults file.
	Faults []string
	// FixedBlocks is the one length of blocks that the storage tells of; zero for
	// extents of any length.
	FixedBlocks int64
	// FSType is made where a volume asks for no particular filesystem.
	FSType string
	Log    *slog.Logger
}

// Driver is the state of a run.
type Driver struct {
	cfg    Config
	store  *store.Store
	faults *faults
	log    *slog.Logger
}

var driverName = regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9.]{0,61}[a-zA-Z0-9])?$`)

// New opens the state folder and puts right what a killed process left behind.
func New(ctx context.Context, cfg Config) (*Driver, error) {
	if !driverName.MatchString(cfg.Name) {
		return nil, fmt.Errorf("driver name %q: want up to 63 letters, digits, dots and dashes", cfg.Name)
	}
	if cfg.Node && (cfg.NodeID == "" || cfg.NodeID != filepath.Base(cfg.NodeID)) {
		return nil, fmt.Errorf("node id %q: give the name of this node with --node-id", cfg.NodeID)
	}
	if !slices.Contains([]string{disk.Ext4, disk.XFS}, cfg.FSType) {
		return nil, fmt.Errorf("filesystem %q is not known: use ext4 or xfs", cfg.FSType)
	}
	if cfg.FixedBlocks < 0 || cfg.FixedBlocks%disk.BlockSize != 0 {
		return nil, fmt.Errorf("fixed blocks of %d bytes: want a multiple of %d", cfg.FixedBlocks, disk.BlockSize)
	}
	st, err := store.Open(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	fixed, err := parseFaults(strings.Join(cfg.Faults, "\n"))
	if err != nil {
		return nil, fmt.Errorf("--fault: %w", err)
	}
	d := &Driver{cfg: cfg, store: st, log: cfg.Log, faults: newFaults(fixed, filepath.Join(st.Dir(), "faults"))}
	if err := d.recover(ctx); err != nil {
		return nil, err
	}
	if cfg.Node {
		if err := st.AddNode(cfg.NodeID); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// recover thaws filesystems and sweeps debris. A lock that is held means that a
// living process works there, and what it does is not left behind.
func (d *Driver) recover(ctx context.Context) error {
	if d.cfg.Flavor.Blocks {
		ids, err := d.store.IDs(store.Volumes)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := d.recoverVolume(ctx, id); err != nil {
				return fmt.Errorf("recover volume %s: %w", id, err)
			}
		}
	}
	if !d.cfg.Controller {
		return nil
	}
	for _, kind := range []store.Kind{store.Volumes, store.Snapshots, store.Groups} {
		debris, err := d.store.Debris(kind)
		if err != nil {
			return err
		}
		for id, lock := range debris {
			if err := d.sweep(ctx, kind, id, lock); err != nil {
				return fmt.Errorf("sweep %s %s: %w", kind, id, err)
			}
		}
	}
	return nil
}

// recoverVolume thaws what a killed process froze. A volume that shows nowhere
// on this node, as after its restart, is not staged here any more.
func (d *Driver) recoverVolume(ctx context.Context, id string) error {
	lock, err := d.store.LockVolume(ctx, id)
	if err != nil {
		return ignoreNotFound(err)
	}
	defer lock.Unlock()
	loops, err := d.loops(id)
	if err != nil {
		return err
	}
	for _, l := range loops {
		thawed, err := disk.ThawStale(l)
		if err != nil {
			return err
		}
		if thawed {
			d.log.Warn("thawed a filesystem that an earlier process left frozen", "volume", id, "loop", l.Path())
		}
	}
	if !d.cfg.Node || d.cfg.Plain {
		return nil
	}
	shown, err := shownAt(loops)
	if err != nil || len(shown) > 0 {
		return err
	}
	return d.store.Unstage(id, d.cfg.NodeID)
}

func (d *Driver) sweep(ctx context.Context, kind store.Kind, id, lockName string) error {
	lock, err := d.store.LockDebris(ctx, lockName)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	still, err := d.store.Debris(kind)
	if err != nil {
		return err
	}
	if _, ok := still[id]; !ok {
		return nil
	}
	d.log.Info("sweep what an interrupted call left", "kind", kind, "id", id)
	if image := d.store.Image(kind, id); fileExists(image) {
		if err := d.detach(ctx, image); err != nil {
			return err
		}
	}
	return d.store.Remove(kind, id)
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
