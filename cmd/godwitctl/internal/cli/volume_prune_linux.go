package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	"github.com/godwit-io/godwit/snapshot"
)

type pruneFlags struct {
	volume, olderThan string
	keepLast          int
	dryRun            bool
}

func newVolumePrune(s *session, shared *volumeFlags) *cobra.Command {
	var f pruneFlags
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove old images",
		Long: `Remove old images: those that are neither among the newest of their volume nor
younger than --older-than. The newest image of a volume always stays, and so
do images of rounds, which recovery points need.

Only the images leave the list; their space returns when the repository's
maintenance runs, by kopia maintenance run --full or by Godwit.`,
		Args: noNames,
		RunE: func(cmd *cobra.Command, _ []string) error {
			policy, err := f.policy(cmd.Flags().Changed("keep-last"), time.Now())
			if err != nil {
				return err
			}
			return s.onRepository(cmd.Context(), shared, false, func(ctx context.Context, r *volumeRun) error {
				return r.prune(ctx, f, policy)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.volume, "volume", "", "Prune this volume only, [CLUSTER/]NAMESPACE/NAME")
	flags.IntVar(&f.keepLast, "keep-last", 1, "How many of the newest images of each volume stay")
	flags.StringVar(&f.olderThan, "older-than", "", "Remove only what is older, such as 36h or 30d")
	flags.BoolVar(&f.dryRun, "dry-run", false, "Only list what would be removed")
	return cmd
}

// retention says which images may go.
type retention struct {
	keepLast int
	// before is the time that they must have been taken before; zero is any.
	before time.Time
}

func (f pruneFlags) policy(keepLast bool, now time.Time) (retention, error) {
	switch {
	case !keepLast && f.olderThan == "":
		return retention{}, errors.New("prune needs to know what to keep: say --keep-last N, --older-than AGE or both")
	case f.keepLast < 1:
		return retention{}, errors.New("--keep-last must be at least 1: the newest image of a volume is never removed")
	}
	policy := retention{keepLast: f.keepLast}
	if f.olderThan != "" {
		age, err := quantity.ParseDuration(f.olderThan)
		if err != nil {
			return policy, fmt.Errorf("--older-than: %w", err)
		}
		policy.before = now.Add(-age)
	}
	return policy, nil
}

// leaving are the images that go, of images sorted oldest first. Those of
// rounds stay and count: what is newer than another is newer for the user too.
func (p retention) leaving(images []snapshot.Image) []snapshot.Image {
	newer := map[snapshot.Volume]int{}
	var gone []snapshot.Image
	for i := len(images) - 1; i >= 0; i-- {
		image := images[i]
		newer[image.Volume]++
		if newer[image.Volume] <= p.keepLast || image.Round != "" {
			continue
		}
		if p.before.IsZero() || image.Taken.Before(p.before) {
			gone = append([]snapshot.Image{image}, gone...)
		}
	}
	return gone
}

func (r *volumeRun) prune(ctx context.Context, f pruneFlags, policy retention) error {
	images, err := r.images(ctx, f.volume)
	if err != nil {
		return err
	}
	gone := policy.leaving(images)
	if !f.dryRun {
		for _, image := range gone {
			if err := r.repo.Forget(ctx, image.ID); err != nil {
				return err
			}
		}
	}
	verb := "removed"
	if f.dryRun {
		verb = "would remove"
	}
	if err := r.hint("%s %d of %d images", verb, len(gone), len(images)); err != nil {
		return err
	}
	if len(gone) == 0 && !r.flags.json {
		return nil
	}
	return r.listImages(gone)
}
