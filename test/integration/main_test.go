// Package integration holds what needs real API servers but no containers, on
// two of the sandbox's control planes: a whole Migration and what it leaves
// behind, and Godwit's processes killed.
//
// It sees Godwit only from outside. Its daemons are built with the race
// detector, run as processes with the rights of the chart's service accounts,
// and must have said nothing of races or panics when all tests are over.
package integration

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godwit-io/godwit/test/scenario"
)

// book takes rights away from Godwit's daemons while TestRights runs.
var book ledger

// shared is the ground that TestMain brought up; nil where it could not.
var shared *scenario.Ground

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	sandbox := os.Getenv("GODWIT_SANDBOX")
	if sandbox == "" {
		return m.Run() // Each test says why it is skipped.
	}
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 55*time.Minute)
	defer cancel()
	code, err := play(ctx, sandbox, m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	return code
}

// play runs the tests on control planes of their own, and removes these.
func play(ctx context.Context, sandbox string, tests func() int) (code int, err error) {
	root, err := scenario.Root()
	if err != nil {
		return 1, err
	}
	dir, unlock, err := folder(root)
	if err != nil {
		return 1, err
	}
	defer unlock()
	o := scenario.DefaultOptions()
	o.Refuse = book.refuse
	o.ControlPlane, o.SandboxProgram, o.Source, o.Target = true, sandbox, "east", "west"
	o.Dir, o.Programs = filepath.Join(dir, "sandbox"), filepath.Join(dir, "bin")
	box := o.Sandbox(root)
	if err := box.Purge(ctx); err != nil {
		return 1, fmt.Errorf("remove what an earlier run left: %w", err)
	}
	defer func() {
		err = errors.Join(err, box.Purge(context.WithoutCancel(ctx)), os.RemoveAll(dir))
	}()
	ground, err := raise(ctx, o, root)
	if err != nil {
		return 1, err
	}
	shared = ground
	if err := scenario.AtOnce(flag.CommandLine, storiesAtOnce); err != nil {
		return 1, err
	}
	if code = tests(); code == 0 {
		err = ground.AwaitNothingLeft(ctx, scenario.Soon)
	}
	complaints, complaining := ground.Complaints(ctx)
	err = errors.Join(err, complaining)
	if len(complaints) > 0 {
		err = errors.Join(err, errors.New(strings.Join(complaints, "\n")))
	}
	err = errors.Join(err, discreet(ctx, ground))
	if code != 0 || err != nil {
		fmt.Fprintln(os.Stderr, ground.LastWords(ctx))
	}
	return code, err
}

// discreet fails where anything that was said in all tests holds a secret that
// was used in them.
func discreet(ctx context.Context, ground *scenario.Ground) error {
	leaks, secrets, bytes, err := ground.Leaks(ctx)
	if err != nil {
		return fmt.Errorf("look for secrets in what was said: %w", err)
	}
	fmt.Printf("looked for %d secrets in %d bytes of logs, events and objects: %d found\n", secrets, bytes, len(leaks))
	if len(leaks) > 0 {
		return errors.New(strings.Join(leaks, "\n"))
	}
	if chosen := flag.Lookup("test.run"); chosen != nil && chosen.Value.String() != "" {
		return nil // Some tests say little.
	}
	if secrets < 8 || bytes < 10_000 {
		return fmt.Errorf("looked for %d secrets in %d bytes only: it looks in the wrong place", secrets, bytes)
	}
	return nil
}

// folder is this clone's own, with a short name since sockets are in it, and
// only one run's at a time.
func folder(root string) (dir string, unlock func(), err error) {
	sum := sha256.Sum256([]byte(root))
	dir = filepath.Join(os.TempDir(), fmt.Sprintf("godwit-integration-%d-%x", os.Getuid(), sum[:4]))
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", nil, errors.Join(fmt.Errorf("wait for another run in this clone: %w", err), lock.Close())
	}
	return dir, func() { _ = lock.Close() }, nil
}

func raise(ctx context.Context, o scenario.Options, root string) (*scenario.Ground, error) {
	// The sandbox's start waits more than it works.
	built := make(chan error, 1)
	go func() {
		_, err := scenario.Tool(ctx, root, "helm")
		built <- errors.Join(err, build(ctx, root, o.Programs))
	}()
	g, err := scenario.Open(ctx, o)
	if err := errors.Join(err, <-built); err != nil {
		return nil, err
	}
	return g, g.Install(ctx)
}

func build(ctx context.Context, root, into string) error {
	args := append([]string{"build", "-race"}, strings.Fields(os.Getenv("GODWIT_RACE_FLAGS"))...)
	args = append(args, "-o", into+string(filepath.Separator), "./cmd/godwitd", "./cmd/godwitctl")
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build Godwit with the race detector: %w: %s", err, out)
	}
	return nil
}

// storiesAtOnce is how many stories run side by side; each waits more than it works.
const storiesAtOnce = 6

// besideOthers gives the control planes to a story that runs beside others, and
// therefore looks only at what is its own, as those of package e2e do.
func besideOthers(t *testing.T) (*scenario.Ground, context.Context) {
	t.Helper()
	t.Parallel()
	return ground(t)
}

// ground gives the control planes to a story that runs alone, or skips the test
// where there are none.
func ground(t *testing.T) (*scenario.Ground, context.Context) {
	t.Helper()
	if shared == nil {
		t.Skip("needs two control planes: make test builds the sandbox for them (GODWIT_SANDBOX)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*scenario.Long)
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

// migration is what a user would apply.
func migration(namespace, name, pair string, namespaces ...string) string {
	return scenario.MigrationOf(namespace, name, pair, namespaces...)
}
