package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/blockdev"
)

const (
	parentLatest = "latest"
	parentNone   = "none"
)

type backupFlags struct {
	volume, parent, extents, moment string
	create, scan, rewrite           bool
}

func newVolumeBackup(s *session, shared *volumeFlags) *cobra.Command {
	var f backupFlags
	cmd := &cobra.Command{
		Use:   "backup DEVICE_OR_FILE",
		Short: "Store a device, a file or a folder as a new image of a volume",
		Long: `Store a device, a file or a folder as a new image of a volume.

Only what differs from the parent is stored. A file is read where it is
allocated, a device everywhere. With --extents only what the file lists is read,
and all else is taken from the parent: an extent that is missing there is a wrong
image, so the parent must be named.

What is written while it is read makes an image of no one moment: back up a
snapshot, or what nobody uses.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s needs one device, file or folder", cmd.CommandPath())
			}
			if err := f.check(); err != nil {
				return err
			}
			return s.onRepository(cmd.Context(), shared, f.create, func(ctx context.Context, r *volumeRun) error {
				return r.backup(ctx, f, args[0])
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.volume, "volume", "", "Whose image it is, [CLUSTER/]NAMESPACE/NAME (default: this host/local/the file's name)")
	flags.StringVar(&f.parent, "parent", parentLatest, "Image to compare with: latest, none, or an id")
	flags.StringVar(&f.extents, "extents", "", "File with a line OFFSET LENGTH, in bytes, for each range that changed since --parent ID")
	flags.BoolVar(&f.scan, "scan", false, "Read all of it, also where a file says that it holds nothing")
	flags.StringVar(&f.moment, "moment", "", "Name of the snapshot that the source is: one of the same name that was cut short is gone on with")
	flags.BoolVar(&f.rewrite, "rewrite", false, "Store all of it again, also what the repository holds: mends what is damaged there, in all images that have the same chunks")
	flags.BoolVar(&f.create, "create", false, "Make the repository if there is none")
	return cmd
}

func (f backupFlags) check() error {
	if f.extents != "" && (f.parent == parentLatest || f.parent == parentNone) {
		return errors.New("--extents says what changed since one image: name it with --parent ID")
	}
	if f.extents != "" && f.scan {
		return errors.New("--scan reads everything and --extents does not: leave one out")
	}
	if f.rewrite && f.parent != parentLatest && f.parent != parentNone {
		return errors.New("--rewrite stores everything again, and --parent what differs: leave one out")
	}
	return nil
}

// ownVolume is what the source is called in the repository.
func (f backupFlags) ownVolume(path string) (snapshot.Volume, error) {
	name := f.volume
	if name == "" {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return snapshot.Volume{}, fmt.Errorf("name the volume: %w", err)
		}
		name = "local/" + filepath.Base(absolute)
	}
	v, err := volumeName(name)
	if err != nil || v.Cluster != "" {
		return v, err
	}
	if v.Cluster, err = os.Hostname(); err != nil {
		return v, fmt.Errorf("find the name of this machine: %w", err)
	}
	return v, nil
}

func (r *volumeRun) backup(ctx context.Context, f backupFlags, path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	volume, err := f.ownVolume(path)
	if err != nil {
		return err
	}
	kind := snapshot.Block
	if st.IsDir() {
		kind = snapshot.Tree
	}
	parent, err := r.parent(ctx, f, volume, kind)
	if err != nil {
		return err
	}
	// An image of no round has no name of one.
	image := snapshot.Image{Volume: volume, Kind: kind, Taken: time.Now().UTC()}
	var n snapshot.Stats
	if kind == snapshot.Tree {
		image, n, err = r.backupTree(ctx, f, path, image, parent)
	} else {
		image, n, err = r.backupBlocks(ctx, f, path, image, parent)
	}
	if err != nil {
		return err
	}
	result := r.result(image, n)
	result.Parent = string(parent)
	if r.flags.json {
		return r.outJSON(result)
	}
	if err := r.out("image %s of %s, %s, by %s", image.ID, image.Volume, quantity.Bytes(image.Size), image.Method); err != nil {
		return err
	}
	return r.out("read %s, changed %s, uploaded %s in %.1fs",
		quantity.Bytes(n.Read), quantity.Bytes(n.Changed), quantity.Bytes(n.Uploaded), result.Seconds)
}

// parent is the image to compare with, which must be of the same volume.
func (r *volumeRun) parent(ctx context.Context, f backupFlags, volume snapshot.Volume, kind snapshot.Kind) (snapshot.ImageID, error) {
	switch {
	case f.parent == parentNone, f.rewrite:
		return "", nil
	case f.parent == parentLatest:
		images, err := r.repo.Images(ctx, volume)
		for i := len(images) - 1; i >= 0; i-- {
			if images[i].Kind == kind {
				return images[i].ID, err
			}
		}
		return "", err
	}
	image, err := r.choose(ctx, "parent", f.parent, "")
	switch {
	case err != nil:
		return "", err
	case image.Volume != volume:
		return "", fmt.Errorf("--parent %s is an image of %s, not of %s: name one of the same volume, or set --volume", f.parent, image.Volume, volume)
	case image.Kind != kind:
		return "", fmt.Errorf("--parent %s is a %s image, and this will be a %s image: leave --parent out", f.parent, image.Kind, kind)
	}
	return image.ID, nil
}

func (r *volumeRun) backupTree(ctx context.Context, f backupFlags, path string, image snapshot.Image, parent snapshot.ImageID) (snapshot.Image, snapshot.Stats, error) {
	said := map[string]bool{"extents": f.extents != "", "scan": f.scan, "moment": f.moment != "", "rewrite": f.rewrite}
	if err := r.forFolder(said); err != nil {
		return image, snapshot.Stats{}, err
	}
	image.Method = snapshot.MethodFiles
	told, end := r.progress("back up %s", image.Volume)
	defer end()
	var last snapshot.Stats
	image, err := r.repo.BackupTree(ctx, path, image, parent, func(n snapshot.Stats) {
		last = n
		if told != nil {
			told(n)
		}
	})
	return image, last, err
}

func (r *volumeRun) backupBlocks(ctx context.Context, f backupFlags, path string, image snapshot.Image, parent snapshot.ImageID) (_ snapshot.Image, _ snapshot.Stats, err error) {
	source, err := blockdev.OpenSource(path)
	if err != nil {
		return image, snapshot.Stats{}, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	if image.Filesystem, err = blockdev.Filesystem(source); err != nil {
		return image, snapshot.Stats{}, err
	}
	if err := r.warnOfUse(path); err != nil {
		return image, snapshot.Stats{}, err
	}
	request := snapshot.BackupRequest{Source: source, Image: image, Parent: parent, Moment: f.moment, Rewrite: f.rewrite, Workers: r.flags.workers, Limiter: r.limiter, Budget: r.budget}
	if request.Image.Method, request.Extents, err = f.method(source); err != nil {
		return image, snapshot.Stats{}, err
	}
	told, end := r.progress("back up %s", image.Volume)
	defer end()
	request.Progress = told
	return snapshot.Backup(ctx, request, r.repo)
}

// method is how the ranges to read are found.
func (f backupFlags) method(source *blockdev.Source) (snapshot.Method, []snapshot.Extent, error) {
	if f.extents != "" {
		extents, err := readExtents(f.extents, source.Size())
		return snapshot.MethodDelta, extents, err
	}
	if f.scan {
		return snapshot.MethodScan, nil, nil
	}
	extents, err := source.Allocated()
	if errors.Is(err, errors.ErrUnsupported) {
		return snapshot.MethodScan, nil, nil
	}
	return snapshot.MethodAllocated, extents, err
}
