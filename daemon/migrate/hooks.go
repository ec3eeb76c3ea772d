package migrate

import "time"

// HookPhase says when a hook runs.
type HookPhase string

// The phases of hooks, in order.
const (
	PreBackup   HookPhase = "PreBackup"
	PostBackup  HookPhase = "PostBackup"
	PreRestore  HookPhase = "PreRestore"
	PostRestore HookPhase = "PostRestore"
)

// ObservedHook is one hook as Next sees it.
type ObservedHook struct {
	Name  string
	Phase HookPhase
	// Done is true once it need not be looked after any more.
	Done bool
	// Failed says why a hook failed with which the Migration fails.
	Failed string
}

// nextHook is the first hook of the phases that is open; without a kind where all
// have run.
func nextHook(o Observed, phases ...HookPhase) Action {
	for _, phase := range phases {
		for _, h := range o.Hooks {
			switch {
			case h.Phase != phase:
			case h.Failed != "":
				return fail("HookFailed", "hook %s (%s): %s", h.Name, h.Phase, h.Failed)
			case !h.Done:
				return Action{Kind: RunHook, Hook: h.Name}
			}
		}
	}
	return Action{}
}

// Hook is a Job of a round, wherever it is to run.
type Hook struct {
	RoundRef
	// Name is the hook's in its Migration.
	Name  string
	Phase HookPhase
	// Namespace and ServiceAccount are where and as whom it runs.
	Namespace, ServiceAccount string
	// User is nil for the image's own.
	User *HookUser
	// Image is empty for that which the cluster has for playbooks.
	Image         string
	Command, Args []string
	// Files are mounted at HookFolder.
	Files        map[string]string
	BackoffLimit int32
	Deadline     time.Duration
	// Started says that it was seen running before: a Job that is gone since then is
	// not made again.
	Started bool
	// Drop takes all Jobs of the round away instead of running one.
	Drop bool
}

// HookUser is as whom a hook's pod runs; what is nil is as the image and the cluster
// have it.
type HookUser struct{ User, Group, FSGroup *int64 }

// HookFolder is where a hook's pod finds its files.
const HookFolder = "/godwit/hook"

// HookResult tells how a hook fares.
type HookResult struct {
	// Job is its name.
	Job string
	// Done is true once it ended, or once all Jobs of a round are dropped; OK if it succeeded.
	Done, OK bool
	// Message is what it waits for, or why it failed; Log the end of what it wrote.
	Message, Log string
}
