package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// godwit is the program that all this is for.
type godwit struct {
	binary, dir, profiles string
	gateway               *gateway
	image                 *image

	repo, home, target string
	round, profiled    int
	// images are those of each version.
	images [versions]string
}

func (g *godwit) name() string { return godwitName }

func (g *godwit) restored() string { return g.target }

func (g *godwit) prepare(_ context.Context, round int) error {
	g.round = round
	g.repo = fmt.Sprintf("s3://%s/godwit-%d", bucket, round)
	g.home = filepath.Join(g.dir, "godwit", strconv.Itoa(round))
	g.target = filepath.Join(g.home, "target.img")
	g.images = [versions]string{}
	return os.MkdirAll(g.home, 0o750)
}

// volume runs godwitctl volume ARGS.
func (g *godwit) volume(ctx context.Context, args ...string) (measure, error) {
	args = append([]string{g.binary, "volume", "--repo", g.repo, "--json", "--quiet"}, args...)
	if g.profiles != "" {
		g.profiled++
		args = append(args, "--cpu-profile", filepath.Join(g.profiles, fmt.Sprintf("%02d-%s.pprof", g.profiled, args[6])))
	}
	return process{args: args, env: append(g.gateway.environment(), "KOPIA_PASSWORD="+password, "HOME="+g.home, "XDG_CACHE_HOME=")}.run(ctx)
}

// environment is how S3 clients find the gateway.
func (g *gateway) environment() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey,
		"AWS_ENDPOINT_URL=http://" + g.endpoint, "AWS_REGION=" + region,
	}
}

// backup stores the image's present version.
func (g *godwit) backup(ctx context.Context, args ...string) (measure, error) {
	m, err := g.volume(ctx, append(append([]string{"backup", "--volume", "bench/volume"}, args...), g.image.path)...)
	if err != nil {
		return m, err
	}
	var result struct {
		Image struct {
			ID string `json:"id"`
		} `json:"image"`
	}
	if err := json.Unmarshal(m.Output, &result); err != nil || result.Image.ID == "" {
		return m, fmt.Errorf("godwitctl told no image: %s", strings.TrimSpace(string(m.Output)))
	}
	g.images[g.image.version] = result.Image.ID
	return m, nil
}

func (g *godwit) run(ctx context.Context, op operation) (measure, error) {
	extents := filepath.Join(g.home, "extents")
	now := g.images[g.image.version]
	switch op {
	case fullUpload:
		return g.backup(ctx, "--create")
	case deltaKnown:
		if err := writeExtents(extents, g.image.changes(0, g.image.version)); err != nil {
			return measure{}, err
		}
		return g.backup(ctx, "--parent", g.images[0], "--extents", extents)
	case deltaScan:
		return g.backup(ctx, "--scan")
	case restore:
		// A restore elsewhere has no cache.
		if err := os.RemoveAll(filepath.Join(g.home, ".cache")); err != nil {
			return measure{}, err
		}
		return g.volume(ctx, "restore", "--no-read-back", "--image", now, g.target)
	case apply:
		return g.volume(ctx, "apply", "--no-read-back", "--force", "--from", g.images[0], "--to", now, g.target)
	case verify:
		return g.volume(ctx, "verify", "--image", now, g.target)
	case reconcile:
		return g.volume(ctx, "apply", "--force", "--to", now, g.target)
	case unchanged:
		if err := writeExtents(extents, nil); err != nil {
			return measure{}, err
		}
		return g.backup(ctx, "--parent", now, "--extents", extents)
	case opening:
		return g.volume(ctx, "list", "--volume", "bench/nothing")
	}
	return measure{}, errNotServed
}
