package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/cbt"
)

// unread is a volume of so many bytes that is published to no node.
type unread int64

func (u unread) Size() int64 { return int64(u) }

func (u unread) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("the volume is published to no node, and was not to be read")
}

// keepBlocks commits what the base's image holds once more, as of this moment, where
// the storage says that nothing changed since. Nothing of the volume is read, so that
// nobody holds the storage's word against what is there: whoever makes such a transfer
// has the volume itself looked at now and then.
func (a *attempt) keepBlocks(ctx context.Context) (result, error) {
	image, done, err := a.begin(ctx, snapshot.Block)
	if err != nil || done != nil {
		return done.orEmpty(), err
	}
	parent, why, err := a.changedSince(ctx)
	if err != nil || why != "" {
		return result{differs: why}, err
	}
	image.Filesystem, image.Method = parent.Filesystem, snapshot.MethodDelta
	committed, stats, err := snapshot.Backup(ctx, snapshot.BackupRequest{
		Source: unread(parent.Size), Image: image, Parent: parent.ID, Moment: image.Taken.String(), Extents: []snapshot.Extent{},
		Limiter: a.cfg.Limiters.Volumes, Budget: a.cfg.Budget, Progress: a.progress,
	}, a.repository)
	if errors.Is(err, snapshot.ErrNoBase) {
		return result{differs: err.Error()}, nil
	}
	if err != nil {
		return result{}, err
	}
	return a.uploaded(committed, stats), nil
}

// changedSince says why the volume has to be read; nothing where it holds what the
// base's image does.
func (a *attempt) changedSince(ctx context.Context) (parent snapshot.Image, why string, err error) {
	spec := a.transfer.Spec
	if a.cfg.Tracker == nil || spec.Snapshot == nil || spec.Base == nil {
		return parent, "there is no storage to ask, or nothing to ask it about", nil
	}
	parent, gone, err := a.baseImage(ctx)
	if err != nil || gone != nil {
		return parent, gone.said(), err
	}
	answers, err := a.cfg.Tracker.About(ctx, *spec.Snapshot)
	if err != nil {
		return parent, err.Error(), ctx.Err()
	}
	defer func() { joinClose(&err, "the connection to the storage", answers.Close()) }()
	m, err := answers.Delta(ctx, spec.Base.SnapshotHandle)
	switch n := m.Bytes(); {
	case err != nil:
		return parent, err.Error(), ctx.Err()
	case m.Capacity != parent.Size:
		return parent, fmt.Sprintf("the storage told of a volume of %d bytes, and the base's image has %d", m.Capacity, parent.Size), nil
	case n > 0:
		return parent, fmt.Sprintf("the storage told that %d bytes changed since image %s", n, parent.ID), nil
	}
	return parent, "", nil
}

// baseImage is the image of the transfer's base, or the miss of a delta without it.
func (a *attempt) baseImage(ctx context.Context) (snapshot.Image, *miss, error) {
	base := a.transfer.Spec.Base
	image, err := a.repository.Image(ctx, snapshot.ImageID(base.Image))
	of := volumeOf(a.transfer.Spec.Volume)
	of.Cluster = cmp.Or(base.Cluster, of.Cluster)
	switch {
	case errors.Is(err, snapshot.ErrNotFound):
		return image, &miss{"delta", string(cbt.BaseGone), fmt.Sprintf("image %s is not in the repository any more", base.Image), true}, nil
	case err != nil:
		return image, nil, fmt.Errorf("find the base's image %s: %w", base.Image, err)
	case image.Kind != snapshot.Block || image.Volume != of:
		return image, &miss{"delta", reasonForeign, fmt.Sprintf("image %s is a %s image of %s", image.ID, image.Kind, image.Volume), true}, nil
	}
	return image, nil, nil
}

// said is empty for none.
func (m *miss) said() string {
	if m == nil {
		return ""
	}
	return m.why
}
