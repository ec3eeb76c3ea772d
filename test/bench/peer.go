package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// operation is what peers are compared in.
type operation string

const (
	fullUpload operation = "full upload"
	deltaKnown operation = "delta upload, extents known"
	deltaScan  operation = "delta upload, extents unknown"
	restore    operation = "full restore"
	apply      operation = "incremental apply"
	verify     operation = "verify, no difference"
	reconcile  operation = "reconcile, no difference"
	unchanged  operation = "unchanged volume, extents known"
	// opening is what every other operation of Godwit has in it.
	opening operation = "open the repository"
)

// errNotServed says that a peer has no such operation.
var errNotServed = errors.New("not served")

// peer is a program that takes part.
type peer interface {
	name() string
	// prepare gives the peer an empty place in the object store for a round.
	prepare(ctx context.Context, round int) error
	// run does the operation. The image holds the version that it is about.
	run(ctx context.Context, op operation) (measure, error)
	// restored is the file that the last restore or apply wrote, if any.
	restored() string
}

const (
	godwitName = "godwit"
	kopiaName  = "kopia"
	resticName = "restic"
	rsyncName  = "rsync"
	veleroName = "velero"
	rawName    = "raw"
)

// tools are programs that are built, or found.
type tools struct {
	// top is the repository's folder; out is where built programs go.
	top, out string
}

// build builds a package, by the module file of a tool where one is given.
func (t tools) build(ctx context.Context, name, pkg, modFile string) (string, error) {
	binary := filepath.Join(t.out, name)
	args := []string{"go", "build", "-trimpath", "-o", binary}
	if modFile != "" {
		args = append(args, "-modfile="+filepath.Join(t.top, modFile))
	}
	if _, err := (process{args: append(args, pkg), dir: t.top, env: []string{"CGO_ENABLED=0"}}).run(ctx); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return binary, nil
}

// findTop goes up to the folder with Godwit's go.mod.
func findTop() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, ".tools", "kopia", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find the repository: run the bench inside it")
		}
		dir = filepath.Dir(dir)
	}
}
