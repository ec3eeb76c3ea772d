package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/blockdev"
)

type verifyFlags struct {
	image, volume string
	sample        float64
}

func newVolumeVerify(s *session, shared *volumeFlags) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify DEVICE_OR_FILE",
		Short: "Compare a device, a file or a folder with an image",
		Long: `Compare a device, a file or a folder with an image.

A device or a file is compared by hashes: no data is fetched. What differs is
printed as lines of OFFSET LENGTH, the first hundred chunks of it. What lies
behind the image is not looked at.

A folder is compared by what it holds: files, links and folders that are new,
gone or something else, and where none are, the bytes of all files, which are
fetched for it. Owners, modes and times do not count, nor does a lost+found. With
--sample only files of the image are compared, and nothing else.

To read the images themselves in the repository, use kopia snapshot verify
--verify-files-percent=100.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s needs one device, file or folder", cmd.CommandPath())
			}
			if f.sample < 0 || f.sample > 100 {
				return fmt.Errorf("--sample %g is no percentage", f.sample)
			}
			return s.onRepository(cmd.Context(), shared, false, func(ctx context.Context, r *volumeRun) error {
				return r.verify(ctx, f, args[0])
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.image, "image", "", "Id of the image")
	flags.StringVar(&f.volume, "volume", "", "Compare with the latest image of this volume, [CLUSTER/]NAMESPACE/NAME")
	flags.Float64Var(&f.sample, "sample", 0, "Compare only so many percent of the chunks, of a folder of the files, chosen at random (default: all)")
	return cmd
}

// volumeVerdict is what --json writes.
type volumeVerdict struct {
	volumeResult
	// Differing counts the chunks that differ; Mismatches are the first of them.
	Differing  int64           `json:"differing"`
	Mismatches []changedExtent `json:"mismatches"`
}

func (r *volumeRun) verify(ctx context.Context, f verifyFlags, path string) error {
	image, err := r.choose(ctx, "image", f.image, f.volume)
	if err != nil {
		return err
	}
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("compare %s with image %s: %w", path, image.ID, err)
	}
	switch tree := image.Kind == snapshot.Tree; {
	case tree && !st.IsDir():
		return fmt.Errorf("%s is no folder, and image %s is of files: name a folder", path, image.ID)
	case tree:
		return r.verifyTree(ctx, f, image, path)
	case st.IsDir():
		return fmt.Errorf("%s is a folder, and image %s is of a device: name a device or a file", path, image.ID)
	}
	return r.verifyBlocks(ctx, f, image, path)
}

func (r *volumeRun) verifyBlocks(ctx context.Context, f verifyFlags, image snapshot.Image, path string) (err error) {
	source, err := blockdev.OpenSource(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	request := snapshot.VerifyRequest{Source: source, Image: image.ID, Mode: snapshot.VerifyFull, Workers: r.flags.workers, Limiter: r.limiter}
	if f.sample > 0 {
		request.Mode, request.Share = snapshot.VerifySample, f.sample/100
	}
	told, end := r.progress("compare %s with image %s", path, image.ID)
	request.Progress = told
	report, err := snapshot.Verify(ctx, request, r.repo)
	end()
	if err != nil && !errors.Is(err, snapshot.ErrDiffers) {
		return err
	}
	if told := r.tellVerdict(path, report); told != nil {
		return told
	}
	if err != nil {
		return fmt.Errorf("%s differs from image %s of %s in %d chunks: apply writes what differs anew", path, image.ID, image.Volume, report.Differing)
	}
	return nil
}

func (r *volumeRun) tellVerdict(path string, report snapshot.VerifyReport) error {
	verdict := volumeVerdict{volumeResult: r.result(report.Image, report.Stats), Differing: report.Differing, Mismatches: []changedExtent{}}
	verdict.Target = path
	for _, m := range report.Mismatches {
		verdict.Mismatches = append(verdict.Mismatches, changedExtent{m.Chunk.Offset, m.Chunk.Length})
	}
	if r.flags.json {
		return r.outJSON(verdict)
	}
	for _, e := range verdict.Mismatches {
		if err := r.out("%d %d", e.Offset, e.Length); err != nil {
			return err
		}
	}
	if report.Differing > 0 {
		return nil
	}
	return r.tellSame(verdict.volumeResult)
}

func (r *volumeRun) tellSame(v volumeResult) error {
	return r.out("%s holds image %s of %s; read and compared %s in %.1fs",
		v.Target, v.Image.ID, v.Image.Volume, quantity.Bytes(v.Stats.Read), v.Seconds)
}

// treeVerdict is what --json writes of a folder.
type treeVerdict struct {
	volumeResult
	// Differs says in words where the folder differs; empty for nowhere.
	Differs string `json:"differs"`
}

func (r *volumeRun) verifyTree(ctx context.Context, f verifyFlags, image snapshot.Image, path string) error {
	if err := r.forFolder(nil); err != nil {
		return err
	}
	told, end := r.progress("compare %s with image %s", path, image.ID)
	differs, stats, err := r.compareTree(ctx, f, image.ID, path, told)
	end()
	if err != nil {
		return err
	}
	verdict := treeVerdict{volumeResult: r.result(image, stats), Differs: differs}
	verdict.Target = path
	switch {
	case r.flags.json:
		err = r.outJSON(verdict)
	case differs == "":
		err = r.tellSame(verdict.volumeResult)
	}
	if err == nil && differs != "" {
		err = fmt.Errorf("%s differs from image %s of %s: %s: restore --force makes it as the image is, and removes what is new", path, image.ID, image.Volume, differs)
	}
	return err
}

func (r *volumeRun) compareTree(ctx context.Context, f verifyFlags, image snapshot.ImageID, path string, told snapshot.Progress) (differs string, stats snapshot.Stats, err error) {
	if f.sample == 0 {
		return r.repo.CompareTree(ctx, image, path, told)
	}
	stats, err = r.repo.VerifyTree(ctx, image, path, f.sample/100, told)
	if errors.Is(err, snapshot.ErrDiffers) {
		// What was compared with what, the outermost words, is said by who tells of it.
		return cmp.Or(errors.Unwrap(err), err).Error(), stats, nil
	}
	return "", stats, err
}
