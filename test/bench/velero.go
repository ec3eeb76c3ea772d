package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// velero is the block uploader of Velero's node agent, as a program of its own
// (.tools/velero). It reads devices only, and stores without compression, as
// Velero does.
type velero struct {
	binary string
	kopia  *kopia
	image  *image
	config string
}

func (b *bench) newVelero(ctx context.Context, i *image) (peer, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("needs root: it reads block devices only, and the image must be behind a loop device")
	}
	b.say("build Velero's uploader")
	v := &velero{image: i, binary: filepath.Join(b.tools.out, "velero-uploader")}
	build := process{args: []string{"go", "build", "-o", v.binary, "."}, dir: filepath.Join(b.tools.top, ".tools", "velero"), env: []string{"CGO_ENABLED=0", "GOWORK=off"}}
	if _, err := build.run(ctx); err != nil {
		return nil, fmt.Errorf("build Velero's uploader: %w", err)
	}
	binary, err := b.tools.build(ctx, "kopia", "github.com/kopia/kopia", ".tools/kopia/go.mod")
	v.kopia = &kopia{binary: binary, dir: filepath.Join(b.dir, "velero"), gateway: b.gateway, image: i}
	return v, err
}

func (v *velero) name() string { return veleroName }

func (v *velero) restored() string { return "" }

// prepare makes a repository as Velero does: kopia's defaults.
func (v *velero) prepare(ctx context.Context, round int) error {
	k := v.kopia
	k.home = filepath.Join(k.dir, strconv.Itoa(round))
	k.connected = filepath.Join(k.home, "writer")
	v.config = filepath.Join(k.connected, "repository.config")
	if err := os.MkdirAll(k.home, 0o750); err != nil {
		return err
	}
	_, err := k.kopia(ctx, "repository", "create", "s3", "--endpoint", k.gateway.endpoint, "--disable-tls", "--bucket", bucket,
		"--prefix", fmt.Sprintf("velero-%d/", round), "--access-key", accessKey, "--secret-access-key", secretKey, "--region", region,
		"--cache-directory", filepath.Join(k.connected, "cache"))
	return err
}

func (v *velero) run(ctx context.Context, op operation) (m measure, err error) {
	if op != fullUpload && op != deltaKnown {
		return m, errNotServed
	}
	loop, err := process{args: []string{"losetup", "--find", "--show", "--read-only", v.image.path}}.run(ctx)
	if err != nil {
		return m, err
	}
	device := strings.TrimSpace(string(loop.Output))
	defer func() {
		// The device goes also when the bench was interrupted.
		_, bad := process{args: []string{"losetup", "--detach", device}}.run(context.WithoutCancel(ctx))
		err = errors.Join(err, bad)
	}()
	return process{args: []string{v.binary, v.config, device, "bench/volume"}, env: []string{"KOPIA_PASSWORD=" + password, "HOME=" + v.kopia.home}}.run(ctx)
}
