package cli

import (
	"context"
	"errors"
	"fmt"

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
		Short: "Compare a device or a file with an image, by hashes",
		Long: `Compare a device or a file with an image, by hashes: no data is fetched.

What differs is printed as lines of OFFSET LENGTH, the first hundred chunks of
it. What lies behind the image is not looked at. To read the images themselves
in the repository, use kopia snapshot verify --verify-files-percent=100.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s needs one device or file", cmd.CommandPath())
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
	flags.Float64Var(&f.sample, "sample", 0, "Compare only so many percent of the chunks, chosen at random (default: all)")
	return cmd
}

// volumeVerdict is what --json writes.
type volumeVerdict struct {
	volumeResult
	// Differing counts the chunks that differ; Mismatches are the first of them.
	Differing  int64           `json:"differing"`
	Mismatches []changedExtent `json:"mismatches"`
}

func (r *volumeRun) verify(ctx context.Context, f verifyFlags, path string) (err error) {
	image, err := r.choose(ctx, "image", f.image, f.volume)
	if err != nil {
		return err
	}
	if image.Kind != snapshot.Block {
		return fmt.Errorf("image %s is of files, and only those of devices are compared: restore it to another folder and compare that", image.ID)
	}
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
	return r.out("%s holds image %s of %s; read and compared %s in %.1fs",
		path, report.Image.ID, report.Image.Volume, quantity.Bytes(report.Stats.Read), verdict.Seconds)
}
