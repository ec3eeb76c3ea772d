package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// kopia is stock kopia, with compression as Godwit has it.
type kopia struct {
	binary, dir string
	gateway     *gateway
	image       *image

	home, target string
	// source is the folder with the image, which is what it stores.
	source string
	// images are the snapshots of each version.
	images [versions]string
	// connected is the folder of the present connection.
	connected string
}

func (k *kopia) name() string { return kopiaName }

func (k *kopia) restored() string { return k.target }

func (k *kopia) prepare(ctx context.Context, round int) error {
	k.home, k.source = filepath.Join(k.dir, "kopia", strconv.Itoa(round)), filepath.Dir(k.image.path)
	if err := os.MkdirAll(k.home, 0o750); err != nil {
		return err
	}
	if err := k.connect(ctx, "create", "writer"); err != nil {
		return err
	}
	_, err := k.kopia(ctx, "policy", "set", "--global", "--compression=zstd-fastest")
	return err
}

// connect makes a connection that has no caches yet.
func (k *kopia) connect(ctx context.Context, how, name string) error {
	k.connected = filepath.Join(k.home, name)
	_, err := k.kopia(ctx, "repository", how, "s3", "--endpoint", k.gateway.endpoint, "--disable-tls", "--bucket", bucket,
		"--prefix", "kopia-"+filepath.Base(k.home)+"/", "--access-key", accessKey, "--secret-access-key", secretKey, "--region", region,
		"--cache-directory", filepath.Join(k.connected, "cache"))
	return err
}

func (k *kopia) kopia(ctx context.Context, args ...string) (measure, error) {
	return process{
		args: append([]string{k.binary, "--config-file", filepath.Join(k.connected, "repository.config"), "--log-dir", filepath.Join(k.home, "log"), "--no-progress"}, args...),
		env:  []string{"KOPIA_PASSWORD=" + password, "KOPIA_CHECK_FOR_UPDATES=false", "HOME=" + k.home},
	}.run(ctx)
}

func (k *kopia) run(ctx context.Context, op operation) (measure, error) {
	switch op {
	case fullUpload, deltaKnown, deltaScan:
		return k.backup(ctx)
	case restore, apply:
		// It has no apply: it restores the whole of the new snapshot.
		if err := k.connect(ctx, "connect", "reader-"+strconv.Itoa(k.image.version)); err != nil {
			return measure{}, err
		}
		if k.target != "" {
			if err := os.RemoveAll(filepath.Dir(k.target)); err != nil {
				return measure{}, err
			}
		}
		dir := filepath.Join(k.home, "restored")
		k.target = filepath.Join(dir, filepath.Base(k.image.path))
		m, err := k.kopia(ctx, "restore", "--write-sparse-files", k.images[k.image.version], dir)
		k.connected = filepath.Join(k.home, "writer")
		return m, err
	}
	return measure{}, errNotServed
}

func (k *kopia) backup(ctx context.Context) (measure, error) {
	m, err := k.kopia(ctx, "snapshot", "create", "--json", k.source)
	if err != nil {
		return m, err
	}
	var made struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(m.Output, &made); err != nil || made.ID == "" {
		return m, errors.Join(fmt.Errorf("kopia told no snapshot: %s", m.Output), err)
	}
	k.images[k.image.version] = made.ID
	return m, nil
}
