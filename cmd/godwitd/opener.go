package main

import (
	"context"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/godwit-io/godwit/snapshot/kopiastore"
)

// keptOpen is how long a repository stays open that nobody uses: longer than what a
// round leaves between its steps, and than continuous rounds leave between them.
const keptOpen = 2 * time.Minute

// openRepositories makes the process's opener, which ends with its manager.
func openRepositories(mgr ctrl.Manager, options ...kopiastore.Option) (*kopiastore.Opener, error) {
	o := kopiastore.New(append(options, kopiastore.KeepOpen(keptOpen))...)
	return o, mgr.Add(closing{o})
}

// closing closes what is kept open as the process ends, elected or not.
type closing struct{ opener *kopiastore.Opener }

var _ manager.LeaderElectionRunnable = closing{}

// NeedLeaderElection is false: who is not elected opens repositories too.
func (closing) NeedLeaderElection() bool { return false }

// Start waits for the end.
func (c closing) Start(ctx context.Context) error {
	<-ctx.Done()
	return c.opener.Close(context.WithoutCancel(ctx))
}
