// Package e2e holds what users do, on two real clusters with real kubelets: a
// file for each story. It sees Godwit only from outside, through the API
// servers, kubectl, godwitctl and the bucket.
//
// What needs no containers is not here: bad input and all else that objects
// alone show is in package integration, on control planes, where it is cheap.
//
// # How a story is made
//
// Stories wait more than they work, so they run side by side, a few at once. A
// story that begins with besideOthers has to keep to these:
//
//   - Its namespaces are its own, with names that no other story's begin with;
//     with them its ClusterPair, and so its prefix in the bucket, its Migrations
//     and its Standbys. A story of several cases begins with severalCases,
//     and gives each case its own namespace in a subtest that begins with
//     besideOthers.
//   - It looks only at its own: scenario.Transfers, scenario.Standbies and
//     AwaitNothingLeftOf take the namespace. Nothing is counted over a cluster.
//     AwaitNothingLeftOf also waits for what belongs to nobody, and when all
//     stories are over the clusters must hold nothing of any Migration.
//   - It spoils the storage by spoil, which takes the namespaces that it is for.
//   - It deletes its Migrations, and sees that nothing is left.
//
// A story that ends a daemon calls alone before it does: it goes on when all others
// have ended, and has the clusters to itself from then on. Let it do all that it can
// before that, and keep the rest short: nothing else goes on meanwhile.
//
// Bytes cost more than anything else here: take the smallest volume that shows
// the matter, and tell in the bound why it is not smaller.
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/godwit-io/godwit/test/scenario"
)

// shared is the ground that TestMain brought up; nil where it was not asked to.
var shared *scenario.Ground

// stories are those that run on it.
var stories = newTurns()

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv("GODWIT_E2E") == "" {
		return m.Run() // Each test says why it is skipped.
	}
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	o := scenario.DefaultOptions()
	// Not the demo's clusters: a user may have those up.
	o.Dir, o.Source, o.Target = filepath.Join(os.TempDir(), "godwit-e2e"), "east", "west"
	o.HookRunnerImage = "godwit-io/hook-runner:dev"
	code, err := play(ctx, o, m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "e2e: the clusters stay up to be looked at; remove them with: bin/sandbox --dir", o.Dir, "down --purge")
	}
	return code
}

// play runs all stories, and removes the clusters when all of them went well.
func play(ctx context.Context, o scenario.Options, all func() int) (int, error) {
	ground, err := raise(ctx, o)
	if err != nil {
		return 1, err
	}
	shared = ground
	if err := stories.takeOver(flag.CommandLine); err != nil {
		return 1, err
	}
	code := all()
	ctx = context.WithoutCancel(ctx)
	// It fails any story, and none of them can say why.
	if err := ground.OutOfMemory(ctx); err != nil || code != 0 {
		return max(code, 1), err
	}
	if err := ground.AwaitNothingLeft(ctx, scenario.Soon); err != nil {
		return 1, fmt.Errorf("after all stories: %w", err)
	}
	return 0, ground.Purge(ctx)
}

func raise(ctx context.Context, o scenario.Options) (*scenario.Ground, error) {
	root, err := scenario.Root()
	if err != nil {
		return nil, err
	}
	// The clusters' start waits more than it works.
	built := make(chan error, 1)
	go func() {
		_, helm := scenario.Tool(ctx, root, "helm")
		_, kopia := scenario.Tool(ctx, root, "kopia")
		built <- errors.Join(helm, kopia)
	}()
	g, err := scenario.Open(ctx, o)
	if err == nil {
		err = g.MakeImages(ctx)
	}
	if err := errors.Join(err, <-built); err != nil {
		return nil, err
	}
	return g, g.Install(ctx)
}

// storiesAtOnce is how many stories run side by side: on two cores, more only
// make each other slow.
const storiesAtOnce = 3

// severalCases begins a story whose cases run beside others.
func severalCases(t *testing.T) {
	t.Helper()
	stories.enter(t.Name())
	t.Cleanup(func() { stories.leave(t.Name()) })
	t.Parallel()
}

// besideOthers gives the clusters to a story that runs beside others, or skips the
// test where there are none.
func besideOthers(t *testing.T) (*scenario.Ground, context.Context) {
	t.Helper()
	severalCases(t)
	if shared == nil {
		t.Skip("needs two real clusters: make e2e brings them up")
	}
	must(t, stories.begin(t.Context(), t.Name()))
	t.Cleanup(stories.end)
	return shared, bounded(t)
}

// bounded is the time that a story has.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*scenario.Long)
	t.Cleanup(cancel)
	return ctx
}

// must ends the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// migration is what a user would apply.
func migration(namespace, name, pair string, namespaces ...string) string {
	return scenario.MigrationOf(namespace, name, pair, namespaces...)
}

// says waits until an object's Ready condition is False with the words, and an
// event of the object says the same.
func says(ctx context.Context, t *testing.T, c scenario.Cluster, kind, namespace, name string, words ...string) {
	t.Helper()
	must(t, c.AwaitRefusal(ctx, scenario.Object{Kind: kind, Namespace: namespace, Name: name}, words...))
}
