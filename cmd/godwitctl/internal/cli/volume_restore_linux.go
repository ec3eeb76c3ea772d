package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/blockdev"
	"github.com/godwit-io/godwit/snapshot/kopiastore"
)

type restoreFlags struct {
	image, volume, journal string
	force, noReadBack      bool
}

func verifyMode(noReadBack bool) snapshot.VerifyMode {
	if noReadBack {
		return snapshot.VerifyNone
	}
	return snapshot.VerifyReadBack
}

func newVolumeRestore(s *session, shared *volumeFlags) *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore DEVICE_OR_FILE",
		Short: "Write an image to a device, a new file or a folder",
		Long: `Write an image to a device, a new file or a folder.

All of the target is overwritten; what lies behind the image is zeroed. A target
that holds something is refused unless --force is said, one that is mounted or
held by another program always. A new file gets its name once it is whole.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s needs one device, file or folder", cmd.CommandPath())
			}
			return s.onRepository(cmd.Context(), shared, false, func(ctx context.Context, r *volumeRun) error {
				return r.restore(ctx, f, args[0])
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.image, "image", "", "Id of the image")
	flags.StringVar(&f.volume, "volume", "", "Take the latest image of this volume, [CLUSTER/]NAMESPACE/NAME")
	flags.BoolVar(&f.force, "force", false, "Overwrite a target that holds something")
	flags.StringVar(&f.journal, "journal", "", "File to note in how far it is: what was cut short goes on there (for a device or a file that exists)")
	flags.BoolVar(&f.noReadBack, "no-read-back", false, "Do not read again what was written")
	return cmd
}

func (r *volumeRun) restore(ctx context.Context, f restoreFlags, path string) error {
	image, err := r.choose(ctx, "image", f.image, f.volume)
	if err != nil {
		return err
	}
	st, err := os.Stat(path)
	exists := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write %s: %w", path, err)
	}
	var n snapshot.Stats
	switch {
	case image.Kind == snapshot.Tree:
		n, err = r.restoreTree(ctx, f, image, path)
	case exists && st.IsDir():
		return fmt.Errorf("%s is a folder, and image %s is of a device: name a device or a file", path, image.ID)
	case !exists && f.journal != "":
		return fmt.Errorf("%s does not exist, and a new file that is cut short is not kept: make it first, or leave --journal out", path)
	case exists:
		n, err = r.restoreOver(ctx, f, image, path)
	default:
		n, err = r.restoreNew(ctx, f, image, path)
	}
	if err != nil {
		return err
	}
	return r.tellWritten(image, path, n)
}

func (r *volumeRun) tellWritten(image snapshot.Image, path string, n snapshot.Stats) error {
	result := r.result(image, n)
	result.Target = path
	if r.flags.json {
		return r.outJSON(result)
	}
	if err := r.out("%s holds image %s of %s, %s", path, image.ID, image.Volume, quantity.Bytes(image.Size)); err != nil {
		return err
	}
	return r.out("fetched %s, wrote %s in %.1fs", quantity.Bytes(n.Fetched), quantity.Bytes(n.Written), result.Seconds)
}

func (r *volumeRun) restoreNew(ctx context.Context, f restoreFlags, image snapshot.Image, path string) (snapshot.Stats, error) {
	created, err := createFile(path, image.Size)
	if err != nil {
		return snapshot.Stats{}, err
	}
	n, err := r.write(ctx, created.where(), snapshot.ApplyRequest{To: image.ID, Verify: verifyMode(f.noReadBack)})
	if err != nil {
		return n, errors.Join(err, created.discard())
	}
	return n, created.keep()
}

// write applies an image to a file that nobody else knows.
func (r *volumeRun) write(ctx context.Context, path string, request snapshot.ApplyRequest) (_ snapshot.Stats, err error) {
	sink, err := blockdev.OpenSink(path)
	if err != nil {
		return snapshot.Stats{}, err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	return r.applyTo(ctx, sink, request)
}

func (r *volumeRun) applyTo(ctx context.Context, sink *blockdev.Sink, request snapshot.ApplyRequest) (snapshot.Stats, error) {
	told, end := r.progress("write image %s", request.To)
	defer end()
	request.Sink, request.Progress, request.Workers, request.Limiter, request.Budget = sink, told, r.flags.workers, r.limiter, r.budget
	return snapshot.Apply(ctx, request, r.repo)
}

func (r *volumeRun) restoreOver(ctx context.Context, f restoreFlags, image snapshot.Image, path string) (_ snapshot.Stats, err error) {
	sink, err := openTarget(path, f.force)
	if err != nil {
		return snapshot.Stats{}, err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	if sink.Size() < image.Size {
		return snapshot.Stats{}, fmt.Errorf("%s has %d bytes and image %s has %d: choose a target that is at least as large", path, sink.Size(), image.ID, image.Size)
	}
	request := snapshot.ApplyRequest{To: image.ID, Verify: verifyMode(f.noReadBack)}
	if err := r.note(&request, sink, f.journal); err != nil {
		return snapshot.Stats{}, err
	}
	n, err := r.applyTo(ctx, sink, request)
	return n, r.unfinished(ctx, path, "restore it again with --force", n.Written > 0, err)
}

// note gives the request a journal, if one is wanted.
func (r *volumeRun) note(request *snapshot.ApplyRequest, sink *blockdev.Sink, file string) (err error) {
	if file == "" {
		return nil
	}
	request.Journal = snapshot.JournalFile(file)
	request.Notice = func(notice string) { _ = r.hint("warning: %s", notice) }
	request.SinkID, err = sink.Identity()
	return err
}

// unfinished says what a target holds that was written in part.
func (r *volumeRun) unfinished(ctx context.Context, path, remedy string, touched bool, err error) error {
	if err == nil || !touched {
		return err
	}
	err = fmt.Errorf("%w; %s was written in part and is not to be used: %s", err, path, remedy)
	if ctx.Err() != nil {
		return errors.Join(r.hint("%s was written in part and is not to be used: %s", path, remedy), err)
	}
	return err
}

func (r *volumeRun) restoreTree(ctx context.Context, f restoreFlags, image snapshot.Image, path string) (snapshot.Stats, error) {
	if err := r.forFolder(map[string]bool{"journal": f.journal != "", "no-read-back": f.noReadBack}); err != nil {
		return snapshot.Stats{}, err
	}
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.Mkdir(path, 0o700); err != nil {
			return snapshot.Stats{}, fmt.Errorf("image %s is of files: make the folder for them: %w", image.ID, err)
		}
	case err != nil:
		return snapshot.Stats{}, fmt.Errorf("image %s is of files, and goes into a folder: %w", image.ID, err)
	case len(entries) > 0 && !f.force:
		return snapshot.Stats{}, fmt.Errorf("%s is not empty, and what image %s does not hold would be removed: choose another folder, or say --force", path, image.ID)
	}
	told, end := r.progress("restore %s", image.Volume)
	n, err := r.repo.RestoreTree(ctx, image.ID, path, told)
	end()
	// Entries go, and change, before any byte is written.
	return n, r.unfinished(ctx, path, "restore it again with --force", errors.Is(err, kopiastore.ErrCutShort), err)
}
