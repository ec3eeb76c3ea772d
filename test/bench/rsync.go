package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
)

// rsync brings a local copy of the image forward in place, on the same disk.
type rsync struct {
	binary, dir string
	image       *image
	target      string
}

func newRsync(ctx context.Context, dir string, i *image) (*rsync, error) {
	binary, err := debian(ctx, "rsync")
	if err != nil {
		return nil, err
	}
	return &rsync{binary: binary, dir: dir, image: i}, nil
}

func (r *rsync) name() string { return rsyncName }

func (r *rsync) restored() string { return r.target }

// prepare copies version 0.
func (r *rsync) prepare(ctx context.Context, round int) error {
	home := filepath.Join(r.dir, "rsync", strconv.Itoa(round))
	if err := os.MkdirAll(home, 0o750); err != nil {
		return err
	}
	r.target = filepath.Join(home, "target.img")
	_, err := process{args: []string{"cp", "--sparse=always", r.image.path, r.target}}.run(ctx)
	return err
}

func (r *rsync) run(ctx context.Context, op operation) (measure, error) {
	if op != apply {
		return measure{}, errNotServed
	}
	return process{args: []string{r.binary, "--inplace", "--no-whole-file", "--ignore-times", r.image.path, r.target}}.run(ctx)
}
