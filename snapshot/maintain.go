package snapshot

import (
	"context"
	"errors"
)

// ErrNotOwner says that another client maintains the repository.
var ErrNotOwner = errors.New("another client maintains the repository")

// Maintenance is a Repository that can be maintained: what no image needs is
// deleted, indexes are joined. All clients may write meanwhile.
//
// One client does so, the owner, who is named in the repository by the User
// and Host of its Location. Where there is no owner, whoever asks becomes it.
type Maintenance interface {
	// Maintain does what is due. ErrNotOwner if that is another's to do.
	Maintain(ctx context.Context, r MaintainRequest) (Maintained, error)
}

// MaintainRequest says how to maintain a repository.
type MaintainRequest struct {
	// TakeOver makes the caller the owner, where the one who was is gone.
	TakeOver bool
	// Full collects what no image needs even if that is not due yet.
	Full bool
}

// MaintenanceMode is how much there was to do.
type MaintenanceMode string

const (
	// MaintenanceNone did nothing, since nothing was due.
	MaintenanceNone MaintenanceMode = ""
	// MaintenanceQuick joined indexes.
	MaintenanceQuick MaintenanceMode = "Quick"
	// MaintenanceFull also deleted what no image needs. What went out of use
	// less than a day ago stays, since somebody may be about to use it.
	MaintenanceFull MaintenanceMode = "Full"
)

// Maintained is what was done.
type Maintained struct {
	Mode MaintenanceMode
	// Swept counts checkpoints of transfers that never went on.
	Swept int
}
