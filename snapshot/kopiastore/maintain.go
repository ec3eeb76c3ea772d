package kopiastore

import (
	"context"
	"fmt"
	"time"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/maintenance"
	"github.com/kopia/kopia/repo/manifest"
	"github.com/kopia/kopia/snapshot/snapshotgc"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// settleTime is how long two who become owners at once take at most to see
	// each other.
	settleTime = 20 * time.Second
	// sweepAfter is when a checkpoint is of a transfer that will not go on.
	sweepAfter = 3 * 24 * time.Hour
	// leastRetention leaves a day between two runs that make locks longer.
	leastRetention = 2 * 24 * time.Hour
)

var _ snapshot.Maintenance = (*Repository)(nil)

// Maintain does what is due, as the one owner.
func (r *Repository) Maintain(ctx context.Context, m snapshot.MaintainRequest) (snapshot.Maintained, error) {
	var done snapshot.Maintained
	err := r.sure(ctx, func() (err error) {
		done, err = r.maintain(ctx, m)
		return err
	})
	if unreadable(err) {
		err = r.damage(err)
	}
	if err != nil {
		return done, fmt.Errorf("maintain repository %s: %w", describe(r.location), explain(r.location, err))
	}
	return done, nil
}

func (r *Repository) maintain(ctx context.Context, m snapshot.MaintainRequest) (snapshot.Maintained, error) {
	var done snapshot.Maintained
	if err := r.refresh(ctx); err != nil {
		return done, err
	}
	if r.checkClock != nil {
		// Collection goes by the ages of blobs.
		if err := r.checkClock(); err != nil {
			return done, err
		}
	}
	if err := r.own(ctx, m.TakeOver); err != nil {
		return done, err
	}
	var err error
	if done.Swept, err = r.sweep(ctx); err != nil {
		return done, err
	}
	mode := maintenance.ModeAuto
	if m.Full {
		mode = maintenance.ModeFull
	}
	done.Mode, err = r.runMaintenance(ctx, mode)
	return done, err
}

// own makes sure that this client is the owner. Where nobody is, two may name
// themselves at once; the later one counts once both have seen it.
func (r *Repository) own(ctx context.Context, takeOver bool) error {
	me := r.rep.ClientOptions().UsernameAtHost()
	params, err := maintenance.GetParams(ctx, r.rep)
	if err != nil {
		return err
	}
	if params.Owner != me && (params.Owner == "" || takeOver) {
		params.Owner = me
		if err := r.setParams(ctx, params); err != nil {
			return err
		}
		timer := time.NewTimer(r.settle)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		if err := r.refresh(ctx); err != nil {
			return err
		}
		if params, err = maintenance.GetParams(ctx, r.rep); err != nil {
			return err
		}
	}
	if params.Owner != me {
		return fmt.Errorf("%w: %s does, so this client, %s, leaves it alone; let it take over if that one is gone for good",
			snapshot.ErrNotOwner, params.Owner, me)
	}
	return nil
}

func (r *Repository) setParams(ctx context.Context, params *maintenance.Params) error {
	format, err := r.rep.FormatManager().BlobCfgBlob(ctx)
	if err != nil {
		return err
	}
	// Without that, what is still used would one day be no longer locked.
	params.ExtendObjectLocks = format.IsRetentionEnabled()
	return repo.WriteSession(ctx, r.rep, repo.WriteSessionOptions{Purpose: "maintenance owner"}, func(ctx context.Context, w repo.RepositoryWriter) error {
		return maintenance.SetParams(ctx, w, params)
	})
}

// sweep removes the checkpoints of transfers that never went on.
func (r *Repository) sweep(ctx context.Context) (int, error) {
	found, err := r.checkpoints(ctx, nil)
	if err != nil {
		return 0, err
	}
	var dead []manifest.ID
	for _, m := range found {
		if r.now().Sub(m.EndTime.ToTime()) > sweepAfter {
			dead = append(dead, m.ID)
		}
	}
	if len(dead) == 0 {
		return 0, nil
	}
	return len(dead), repo.WriteSession(ctx, r.rep, repo.WriteSessionOptions{Purpose: "sweep"}, func(ctx context.Context, w repo.RepositoryWriter) error {
		for _, id := range dead {
			if err := w.DeleteManifest(ctx, id); err != nil {
				return fmt.Errorf("remove checkpoint %s: %w", id, err)
			}
		}
		return nil
	})
}

func (r *Repository) runMaintenance(ctx context.Context, mode maintenance.Mode) (ran snapshot.MaintenanceMode, err error) {
	err = repo.DirectWriteSession(ctx, r.rep, repo.WriteSessionOptions{Purpose: "maintenance"}, func(ctx context.Context, w repo.DirectRepositoryWriter) error {
		return maintenance.RunExclusive(ctx, w, mode, false, func(ctx context.Context, p maintenance.RunParameters) error {
			ran = snapshot.MaintenanceQuick
			if p.Mode == maintenance.ModeFull {
				ran = snapshot.MaintenanceFull
				if err := snapshotgc.Run(ctx, w, true, r.safety, p.MaintenanceStartTime); err != nil {
					return fmt.Errorf("find what no image needs: %w", err)
				}
			}
			return maintenance.Run(ctx, p, r.safety)
		})
	})
	return ran, err
}

// retention is the lock that blobs get; none without a period.
func retention(l snapshot.Location) (blob.RetentionMode, error) {
	mode := blob.RetentionMode(l.RetentionMode)
	switch {
	case l.RetentionPeriod == 0 && mode == "":
		return "", nil
	case l.Type != snapshot.S3:
		return "", fmt.Errorf("storage type %q locks no objects: leave the retention mode and period empty", l.Type)
	case !mode.IsValid():
		return "", fmt.Errorf("retention mode %q is not known: use %s or %s", l.RetentionMode, blob.Governance, blob.Compliance)
	case l.RetentionPeriod < leastRetention:
		return "", fmt.Errorf("a retention period of %s is too short: it is at least %s, since locks are made longer once a day", l.RetentionPeriod, leastRetention)
	}
	return mode, nil
}
