// Csidriver is a small, real CSI driver for one machine, to test Godwit with.
//
// A volume is a sparse file in the state folder, best on xfs with reflink; it
// is published as a loop device or as the ext4 or xfs on it. Snapshots and
// clones share its blocks and are taken with the filesystem frozen. All nodes
// of a cluster on one machine share one state folder.
//
//	csidriver --endpoint unix:///var/lib/kubelet/plugins/csi.test.godwit.io/csi.sock \
//	  --node-id NODE --state-dir DIR --registration
//
// # Flavors
//
//	block-cbt  Block and Filesystem volumes, snapshots, clones, groups, changed blocks
//	block      the same without changed blocks
//	nosnap     Block and Filesystem volumes and clones, no snapshots
//	shared     folders that all nodes may write; no Block, snapshots or clones;
//	           sizes are told but not enforced
//
// Volumes other than shared ones attach to one node at a time, unless it only
// reads (--single-node-attach=false lets Block volumes be written on several).
//
// # Faults
//
// --fault LINE (any number) and the lines of STATE_DIR/faults, read at each
// call. Calls are counted from when a line appeared.
//
//	CreateSnapshot fail=2               the second call fails
//	CreateSnapshot fail=2-4 code=ABORTED  the second to fourth, with that code
//	CreateVolume fail=1 after           the first is done and then reported failed
//	NodePublishVolume delay=3s          every call waits
//	GetMetadataDelta cut=2 fail=1       the first stream breaks after two messages
//	GetMetadataDelta lie=omit           a block of each message is left out
//	lose-base                           no snapshot is found as the base of a delta
//	lose-base=SNAPSHOT_ID               that one is not
//	CreateSnapshot fail=1 of=shop-*     only calls about volumes for claims in
//	                                    namespaces of such names count and fail
//
// fail takes N, N-M, N- or *; the code is UNAVAILABLE where none is given; of
// works where csi-provisioner runs with --extra-create-metadata. The
// lies about changed blocks are omit, empty (no blocks), nothing (not even the
// size), early (ends after one message), overlap, disorder, beyond (the end),
// resize (another size in each message) and uneven (blocks of one length that
// differ).
//
// # What it never does
//
// It never formats a volume that holds anything, and it does not speak with
// Kubernetes: the usual sidecars do that, but for kubelet's plugin
// registration, which --registration serves.
//
// # Without root
//
// --plain publishes symbolic links: to the image of a Block volume, to a folder
// for a Filesystem volume, which is packed into the image as an ext4 whenever a
// snapshot or a clone is made (mkfs.ext4 and debugfs do it). Bytes are as real as
// elsewhere, but nothing is frozen, sizes are held only when a snapshot is made,
// read-only is not held, and hard links and extended attributes are lost when a
// folder is made from an image.
//
// Otherwise it needs root, loop devices, mkfs.ext4 or mkfs.xfs, e2fsck, resize2fs and
// mount. An ext4 grows online only with CAP_SYS_RESOURCE; without it, it grows
// when it is next staged. An xfs always grows online.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/godwit-io/godwit/test/csidriver/internal/disk"
	"github.com/godwit-io/godwit/test/csidriver/internal/driver"
)

const version = "0.1.0"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "csidriver:", err)
		}
		stop()
		os.Exit(1)
	}
}

// lines is a flag that may be given several times.
type lines []string

func (l *lines) String() string     { return strings.Join(*l, "; ") }
func (l *lines) Set(s string) error { *l = append(*l, s); return nil }

// options are the flags that do not belong to the driver's own configuration.
type options struct {
	endpoint, kubeletDir, flavor, mode string
	registration, verbose              bool
	faults                             lines
}

func parse(args []string) (driver.Config, options, error) {
	var cfg driver.Config
	var o options
	fs := flag.NewFlagSet("csidriver", flag.ContinueOnError)
	fs.StringVar(&o.endpoint, "endpoint", "unix:///var/lib/kubelet/plugins/csi.test.godwit.io/csi.sock", "unix `socket` to serve on")
	fs.StringVar(&cfg.NodeID, "node-id", "", "`name` of this node")
	fs.StringVar(&cfg.StateDir, "state-dir", "", "`folder` for volumes, best on xfs with reflink")
	fs.StringVar(&cfg.Name, "driver-name", "csi.test.godwit.io", "`name` of the driver")
	fs.StringVar(&o.kubeletDir, "kubelet-dir", "/var/lib/kubelet", "kubelet's root `folder`, for --registration")
	fs.BoolVar(&o.registration, "registration", false, "register with kubelet")
	fs.StringVar(&o.flavor, "flavor", "block-cbt", "`what` the storage can do: block-cbt, block, nosnap, shared")
	fs.StringVar(&o.mode, "mode", "all", "`services` to run: all, controller, node")
	fs.BoolVar(&cfg.Topology, "topology", false, "bind each volume to the node that it was made for")
	fs.BoolVar(&cfg.SingleNodeAttach, "single-node-attach", true, "refuse a volume that is attached to another node")
	fs.StringVar(&cfg.FSType, "fstype", disk.Ext4, "`filesystem` where a volume asks for none: ext4 or xfs")
	fs.Int64Var(&cfg.FixedBlocks, "fixed-blocks", 0, "tell of changed blocks in blocks of this many `bytes` instead of extents")
	fs.BoolVar(&cfg.Plain, "plain", false, "publish links to files instead of devices and mounts; needs no root")
	fs.Var(&o.faults, "fault", "`line` that spoils calls, see the package documentation; may be repeated")
	fs.BoolVar(&o.verbose, "v", false, "log every call")
	if err := fs.Parse(args); err != nil {
		return cfg, o, err
	}
	if fs.NArg() > 0 {
		return cfg, o, fmt.Errorf("unexpected argument %q: flags begin with --", fs.Arg(0))
	}
	return cfg, o, nil
}

func run(ctx context.Context, args []string) error {
	cfg, o, err := parse(args)
	if err != nil {
		return err
	}
	if cfg.StateDir == "" {
		return errors.New("no state folder: give one with --state-dir")
	}
	if cfg.Flavor, err = driver.ParseFlavor(o.flavor); err != nil {
		return err
	}
	switch o.mode {
	case "all":
		cfg.Controller, cfg.Node = true, true
	case "controller":
		cfg.Controller = true
	case "node":
		cfg.Node = true
	default:
		return fmt.Errorf("mode %q is not known: use all, controller or node", o.mode)
	}
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	cfg.Version, cfg.Faults = version, o.faults
	d, err := driver.New(ctx, cfg)
	if err != nil {
		return err
	}
	return serve(ctx, d, o)
}

// serve runs the socket of the driver and that of the registration; the end of
// one is the end of both.
func serve(ctx context.Context, d *driver.Driver, o options) error {
	if !o.registration {
		return d.Serve(ctx, o.endpoint)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var regErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		regErr = d.Register(ctx, o.kubeletDir, o.endpoint)
	})
	err := d.Serve(ctx, o.endpoint)
	cancel()
	wg.Wait()
	return errors.Join(err, regErr)
}
