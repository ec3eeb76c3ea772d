package transfer

import (
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// Beat is when, in seconds, somebody was last seen to look after the transfer: a node
// that works on it, or that has it wait for a place. Such a one is the node's to end.
func Beat(t *api.VolumeTransfer, now time.Time) int64 {
	if t.Status.Phase == api.TransferPending && t.Status.Attempts == 0 {
		return now.Unix()
	}
	if t.Status.Heartbeat == nil {
		return 0
	}
	return t.Status.Heartbeat.Unix()
}
