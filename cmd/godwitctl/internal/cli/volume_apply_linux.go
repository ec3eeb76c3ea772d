package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/blockdev"
)

type applyFlags struct {
	from, to, volume, journal string
	force, noReadBack         bool
}

func newVolumeApply(s *session, shared *volumeFlags) *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "apply DEVICE_OR_FILE",
		Short: "Bring a target to an image, fetching and writing only what differs",
		Long: `Bring a target to an image, fetching and writing only what differs.

With --from, the image that the target holds now, only what differs between the
two images is looked at; --to may be newer or older. Without --from nothing is
believed: all of the target is read and hashed, and what differs is written. A
sample is compared first, and a target that seems to hold something else is
refused. An apply that was cut short is finished by one without --from, or by the
same one where both have the same --journal.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s needs one device or file", cmd.CommandPath())
			}
			if f.journal != "" && f.from == "" {
				return errors.New("--journal is for an apply between two images: name the first with --from, or leave --journal out")
			}
			return s.onRepository(cmd.Context(), shared, false, func(ctx context.Context, r *volumeRun) error {
				return r.apply(ctx, f, args[0])
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "", "Id of the image that the target holds (default: find out)")
	flags.StringVar(&f.to, "to", "", "Id of the image that it shall hold")
	flags.StringVar(&f.volume, "volume", "", "Bring it to the latest image of this volume, [CLUSTER/]NAMESPACE/NAME")
	flags.BoolVar(&f.force, "force", false, "Write to a target that seems to hold something else")
	flags.StringVar(&f.journal, "journal", "", "File to note in how far it is: the same apply goes on there (with --from)")
	flags.BoolVar(&f.noReadBack, "no-read-back", false, "Do not read again what was written")
	return cmd
}

func (r *volumeRun) apply(ctx context.Context, f applyFlags, path string) (err error) {
	to, err := r.choose(ctx, "to", f.to, f.volume)
	if err != nil {
		return err
	}
	held := to
	if f.from != "" {
		if held, err = r.choose(ctx, "from", f.from, ""); err != nil {
			return err
		}
	}
	switch {
	case to.Kind != snapshot.Block || held.Kind != snapshot.Block:
		return errors.New("apply is for images of devices, and one of these is of files: use restore")
	case held.Volume != to.Volume:
		return fmt.Errorf("image %s is of %s and image %s of %s: apply goes between images of one volume; use restore", held.ID, held.Volume, to.ID, to.Volume)
	}
	sink, err := openTarget(path, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	if err := r.plausible(ctx, f, path, sink, held); err != nil {
		return err
	}
	var n snapshot.Stats
	if f.from != "" {
		request := snapshot.ApplyRequest{To: to.ID, From: held.ID, Verify: verifyMode(f.noReadBack)}
		if err := r.note(&request, sink, f.journal); err != nil {
			return err
		}
		n, err = r.applyTo(ctx, sink, request)
	} else {
		n, err = r.reconcile(ctx, sink, snapshot.ReconcileRequest{To: to.ID, Verify: verifyMode(f.noReadBack)})
	}
	if err := r.unfinished(ctx, path, "apply again without --from", n.Written > 0, err); err != nil {
		return err
	}
	return r.tellWritten(to, path, n)
}

func (r *volumeRun) reconcile(ctx context.Context, sink *blockdev.Sink, request snapshot.ReconcileRequest) (snapshot.Stats, error) {
	told, end := r.progress("compare with image %s", request.To)
	defer end()
	request.Sink, request.Progress, request.Workers, request.Limiter, request.Budget = sink, told, r.flags.workers, r.limiter, r.budget
	return snapshot.Reconcile(ctx, request, r.repo)
}

// plausible refuses a target that does not hold what it should: what --from
// says, or without it something like the image.
func (r *volumeRun) plausible(ctx context.Context, f applyFlags, path string, sink *blockdev.Sink, image snapshot.Image) error {
	if f.force || underWay(f.journal) {
		return nil
	}
	there, looked, err := r.sample(ctx, sink, image)
	switch {
	case err != nil:
		return err
	case f.from != "" && there < looked:
		return fmt.Errorf("%s does not hold image %s: leave --from out, and all of it is compared", path, image.ID)
	case there*2 > looked:
		return nil
	}
	found, err := holds(path, sink)
	if err != nil || found == "" {
		return err
	}
	return fmt.Errorf("%s, and hardly anything of image %s, so it would be lost: choose another target, or say --force", found, image.ID)
}

// underWay says that a journal has an apply that was cut short, which leaves a
// target that holds neither image. The engine checks whose journal it is.
func underWay(journal string) bool {
	st, err := os.Stat(journal)
	return err == nil && st.Size() > 0
}

// Enough to tell one volume from another.
const (
	sampledSegments = 32
	sampledChunks   = 8
)

// sample compares some chunks with the target's, and says how many of them are
// there. Only chunks with data tell anything: empty volumes are all alike.
func (r *volumeRun) sample(ctx context.Context, sink *blockdev.Sink, image snapshot.Image) (there, looked int, err error) {
	reader, err := r.repo.Open(ctx, image.ID)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	segments, err := reader.Segments(ctx)
	if err != nil {
		return 0, 0, err
	}
	rand.Shuffle(len(segments), func(i, j int) { segments[i], segments[j] = segments[j], segments[i] }) //nolint:gosec // which chunks are read is no secret
	buf := make([]byte, image.ChunkSize)
	for _, segment := range segments[:min(len(segments), sampledSegments)] {
		chunks, err := reader.Chunks(ctx, segment)
		if err != nil {
			return there, looked, err
		}
		chunks = slices.DeleteFunc(slices.Clone(chunks), func(c snapshot.Chunk) bool { return c.Zero })
		rand.Shuffle(len(chunks), func(i, j int) { chunks[i], chunks[j] = chunks[j], chunks[i] }) //nolint:gosec // as above
		for _, c := range chunks[:min(len(chunks), sampledChunks)] {
			n, err := sink.ReadAt(buf[:c.Length], c.Offset)
			if err != nil && !errors.Is(err, io.EOF) {
				return there, looked, fmt.Errorf("look at what is there: %w", err)
			}
			looked++
			if reader.ChunkID(buf[:n]) == c.ID {
				there++
			}
		}
	}
	return there, looked, nil
}
