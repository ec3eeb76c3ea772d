package scenario

import (
	"context"
	"fmt"
	"strings"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// locationName is the BackupLocation of each namespace, on both sides.
const locationName = "relay"

// Pair lets the source move the namespace to the target, as a user would: a
// BackupLocation on both sides, a ClusterPair printed by the target and applied
// to the source, and both statuses Ready. Flags go to the target's godwitctl.
func (g *Ground) Pair(ctx context.Context, namespace, name string, flags ...string) error {
	for _, c := range []Cluster{g.Source, g.Target} {
		if err := g.EnsureLocation(ctx, c, namespace, g.Store); err != nil {
			return err
		}
	}
	printed, err := g.Godwitctl(ctx, g.Target, append([]string{"-n", namespace, "generate", "clusterpair", name}, flags...)...)
	if err != nil {
		return err
	}
	if err := g.Source.ApplyAsUser(ctx, []byte(printed)); err != nil {
		return err
	}
	return g.AwaitPair(ctx, namespace, name, Soon)
}

// EnsureLocation makes the namespace and its BackupLocation unless they are there.
func (g *Ground) EnsureLocation(ctx context.Context, c Cluster, namespace string, store ObjectStore) error {
	if err := c.EnsureNamespace(ctx, namespace); err != nil {
		return err
	}
	there, err := c.Kubectl(ctx, "-n", namespace, "get", "backuplocations.godwit.io", locationName, "--ignore-not-found", "-o", "name")
	if err != nil || there != "" {
		return err
	}
	args := []string{
		"-n", namespace, "create", "backuplocation", locationName, "--bucket", store.Bucket, "--endpoint", store.Endpoint,
		"--region", store.Region, "--access-key", store.AccessKey, "--secret-key", "-",
	}
	if store.CAFile != "" {
		args = append(args, "--ca-file", store.CAFile)
	}
	_, err = g.godwitctl(ctx, command{stdin: strings.NewReader(store.SecretKey)}, c, args...)
	return err
}

// AwaitPair waits until both statuses of the ClusterPair are Ready.
func (g *Ground) AwaitPair(ctx context.Context, namespace, name string, patience time.Duration) error {
	what := fmt.Sprintf("ClusterPair %s/%s to be Ready", namespace, name)
	return Await(ctx, patience, what, func(ctx context.Context) (bool, string, error) {
		p, err := Get[api.ClusterPair](ctx, g.Source, "-n", namespace, "clusterpairs.godwit.io", name)
		if err != nil {
			return false, "", err
		}
		seen := fmt.Sprintf("storage %q, scheduler %q", p.Status.StorageStatus, p.Status.SchedulerStatus)
		for _, c := range p.Status.Conditions {
			seen += fmt.Sprintf("; %s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
		}
		ready := p.Status.StorageStatus == api.ClusterPairStatusReady && p.Status.SchedulerStatus == api.ClusterPairStatusReady
		return ready, seen, nil
	})
}
