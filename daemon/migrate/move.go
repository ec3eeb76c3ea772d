package migrate

import "fmt"

// MoveFacts is what decides whether a volume can be handed over instead of copied.
type MoveFacts struct {
	// Unreachable says why no other cluster can reach the storage; empty if one may.
	Unreachable string
	// Answered is true where an admin pair answers for what has no namespace.
	Answered bool
	// Quiesces is true where the Migration stops the application.
	Quiesces bool
	// User says which pod has the volume, or which node; empty for none.
	User string
	// Activates is true where the target becomes the active side, Scheduled for a run
	// of a schedule.
	Activates, Scheduled bool
}

// MoveRefusal says why a volume cannot be handed over; empty if it can. What is moved
// is one volume that two clusters know: whatever needs two of them cannot have it.
func (r VolumeRule) MoveRefusal(f MoveFacts) string {
	switch {
	case r.SizeBytes != 0 || len(r.AccessModes) > 0:
		return "a moved volume stays as it is: leave size and accessModes out of its rule, or use Copy"
	case f.Unreachable != "":
		return fmt.Sprintf("action Move: %s: use Copy", f.Unreachable)
	case f.Scheduled:
		return "action Move: a schedule copies again and again, and a volume is moved once: use Copy in a schedule, and Move in a Migration of your own"
	case f.Activates:
		return "action Move: spec.activate keeps a copy on each side, and a moved volume is the same on both: leave activate out, or use Copy"
	case !f.Answered:
		return "action Move: a PersistentVolume has no namespace, and may name any tenant's storage, so that only an admin pair brings one: name one in spec.adminClusterPair, or use Copy"
	case !f.Quiesces && f.User != "":
		return fmt.Sprintf("action Move: %s, and two clusters must not use it at once: set spec.quiesce, which stops the application, or stop it yourself", f.User)
	}
	return ""
}
