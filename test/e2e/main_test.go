// Package e2e holds what users do, on two real clusters with real kubelets: a
// file for each story. It sees Godwit only from outside, through kubectl,
// godwitctl and the bucket.
package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/godwit-io/godwit/test/scenario"
)

// shared is the ground that TestMain brought up; nil where it was not asked to.
var shared *scenario.Ground

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv("GODWIT_E2E") == "" {
		return m.Run() // Each test says why it is skipped.
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	o := scenario.DefaultOptions()
	// Not the demo's clusters: a user may have those up.
	o.Dir, o.Source, o.Target = filepath.Join(os.TempDir(), "godwit-e2e"), "east", "west"
	ground, err := raise(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	shared = ground
	code := m.Run()
	if code != 0 {
		fmt.Fprintln(os.Stderr, "e2e: the clusters stay up to be looked at; remove them with: bin/sandbox --dir", o.Dir, "down --purge")
		return code
	}
	if err := ground.Purge(context.WithoutCancel(ctx)); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: remove the clusters:", err)
		return 1
	}
	return 0
}

func raise(ctx context.Context, o scenario.Options) (*scenario.Ground, error) {
	g, err := scenario.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := g.MakeImages(ctx); err != nil {
		return nil, err
	}
	return g, g.Install(ctx)
}

// ground gives the clusters, or skips the test where there are none.
func ground(t *testing.T) (*scenario.Ground, context.Context) {
	t.Helper()
	if shared == nil {
		t.Skip("needs two real clusters: make e2e brings them up")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	return shared, ctx
}

// must ends the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
