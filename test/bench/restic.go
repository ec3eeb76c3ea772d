package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// restic is Debian's restic.
type restic struct {
	binary, dir string
	gateway     *gateway
	image       *image

	home, target, repo string
	readers            int
}

func newRestic(ctx context.Context, dir string, g *gateway, i *image) (*restic, error) {
	binary, err := debian(ctx, "restic")
	if err != nil {
		return nil, err
	}
	return &restic{binary: binary, dir: dir, gateway: g, image: i}, nil
}

func (r *restic) name() string { return resticName }

func (r *restic) restored() string { return r.target }

func (r *restic) prepare(ctx context.Context, round int) error {
	r.home = filepath.Join(r.dir, "restic", strconv.Itoa(round))
	r.repo = fmt.Sprintf("s3:http://%s/%s/restic-%d", r.gateway.endpoint, bucket, round)
	r.target = ""
	if err := os.MkdirAll(r.home, 0o750); err != nil {
		return err
	}
	_, err := r.restic(ctx, "cache", "init", "--repository-version", "2")
	return err
}

func (r *restic) restic(ctx context.Context, cache string, args ...string) (measure, error) {
	return process{
		args: append([]string{r.binary, "-r", r.repo, "--cache-dir", filepath.Join(r.home, cache), "-q"}, args...),
		env:  append(r.gateway.environment(), "RESTIC_PASSWORD="+password, "HOME="+r.home),
	}.run(ctx)
}

func (r *restic) run(ctx context.Context, op operation) (measure, error) {
	switch op {
	case fullUpload, deltaKnown, deltaScan:
		return r.restic(ctx, "cache", "backup", r.image.path)
	case restore:
		r.readers++
		dir := filepath.Join(r.home, "restored")
		r.target = filepath.Join(dir, r.image.path)
		return r.restic(ctx, "reader-"+strconv.Itoa(r.readers), "restore", "latest", "--target", dir)
	}
	return measure{}, errNotServed
}
