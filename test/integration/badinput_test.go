package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/godwit-io/godwit/test/scenario"
)

const badNamespace = "bad"

// refused applies a Migration, waits for what it says, and sees that it leaves
// nothing behind.
func refused(ctx context.Context, t *testing.T, g *scenario.Ground, namespace, manifest, name string, words ...string) {
	t.Helper()
	must(t, g.Source.Apply(ctx, []byte(manifest)))
	must(t, g.Source.AwaitRefusal(ctx, scenario.Object{Kind: "migrations.godwit.io", Namespace: namespace, Name: name}, words...))
	must(t, g.AwaitNothingLeftOf(ctx, namespace, scenario.Soon))
	must(t, g.DeleteMigration(ctx, namespace, name))
}

func TestBadMigrations(t *testing.T) {
	g, ctx := besideOthers(t)
	must(t, g.Pair(ctx, badNamespace, "west"))
	t.Run("unknown pair", func(t *testing.T) {
		refused(ctx, t, g, badNamespace, migration(badNamespace, "m", "nobody", badNamespace), "m", "PairNotFound", "ClusterPair nobody does not exist")
	})
	t.Run("namespace that does not exist", func(t *testing.T) {
		refused(ctx, t, g, scenario.Namespace, migration(scenario.Namespace, "m", "west", "nowhere"), "m", "NamespaceNotFound", "nowhere")
	})
	t.Run("foreign namespace", func(t *testing.T) {
		refused(ctx, t, g, badNamespace, migration(badNamespace, "m", "west", "default"), "m", "NamespaceNotAllowed", "should only contain the current namespace")
	})
	t.Run("pending claim", func(t *testing.T) {
		withClaim(ctx, t, g, "csi-block-wffc", func() {
			refused(ctx, t, g, badNamespace, migration(badNamespace, "m", "west", badNamespace), "m", "VolumeNotMovable", "claim bad/claim: it is Pending")
		})
	})
	t.Run("storage class that the target lacks", func(t *testing.T) {
		must(t, g.Source.Apply(ctx, []byte("{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: only-here}, provisioner: csi.test.godwit.io}")))
		withClaim(ctx, t, g, "only-here", func() {
			_, err := g.Source.Kubectl(ctx, "-n", badNamespace, "wait", "--for", "jsonpath={.status.phase}=Bound", "pvc/claim", "--timeout", "30s")
			must(t, err)
			refused(ctx, t, g, badNamespace, migration(badNamespace, "m", "west", badNamespace), "m", "StorageClassNotFound", "only-here", "storageClassMapping")
		})
	})
}

func withClaim(ctx context.Context, t *testing.T, g *scenario.Ground, class string, do func()) {
	t.Helper()
	must(t, g.Source.Apply(ctx, fmt.Appendf(nil, `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: claim, namespace: %s},
		spec: {accessModes: [ReadWriteOnce], storageClassName: %s, resources: {requests: {storage: 16Mi}}}}`, badNamespace, class)))
	do()
	_, err := g.Source.Kubectl(ctx, "-n", badNamespace, "delete", "pvc", "claim", "--timeout", "60s")
	must(t, err)
}

// TestUnreachable takes the target away and brings it back: the Migration waits,
// says why, and then goes on by itself.
func TestUnreachable(t *testing.T) {
	g, ctx := ground(t)
	const namespace, controller = "unreachable", "godwitd controller"
	must(t, g.Pair(ctx, namespace, "west"))
	must(t, g.StopBeside(ctx, g.Target, controller))
	err := errors.Join(
		g.Source.Apply(ctx, []byte(migration(namespace, "m", "west", namespace))),
		g.Source.AwaitRefusal(ctx, scenario.Object{Kind: "migrations.godwit.io", Namespace: namespace, Name: "m"}, "cannot reach"),
		g.AwaitNothingLeft(ctx, scenario.Soon))
	// Other stories need the target, whatever was seen.
	must(t, errors.Join(err, g.StartBeside(ctx, g.Target, controller)))
	// The target has come back.
	_, err = g.AwaitSuccess(ctx, namespace, "m", scenario.Long)
	must(t, err)
	must(t, g.DeleteMigration(ctx, namespace, "m"))
}

func TestBadStores(t *testing.T) {
	g, ctx := besideOthers(t)
	const namespace = "bad-stores"
	must(t, g.Source.EnsureNamespace(ctx, namespace))
	for name, c := range map[string]struct {
		spoil func(*scenario.ObjectStore)
		says  string
	}{
		"wrong-key":      {func(o *scenario.ObjectStore) { o.SecretKey = "wrong" }, "keys were refused"},
		"missing-bucket": {func(o *scenario.ObjectStore) { o.Bucket = "nothere" }, `bucket "nothere" does not exist`},
		"wrong-ca":       {func(o *scenario.ObjectStore) { o.CAFile = "" }, "certificate is not signed by"},
	} {
		t.Run(name, func(t *testing.T) {
			store := g.Store
			c.spoil(&store)
			args := []string{"-n", namespace, "create", "backuplocation", name, "--bucket", store.Bucket, "--endpoint", store.Endpoint,
				"--region", store.Region, "--access-key", store.AccessKey, "--secret-key-file", keyFile(t, store.SecretKey)}
			if store.CAFile != "" {
				args = append(args, "--ca-file", store.CAFile)
			}
			_, err := g.Godwitctl(ctx, g.Source, args...)
			must(t, err)
			must(t, g.Source.AwaitRefusal(ctx, scenario.Object{Kind: "backuplocations.godwit.io", Namespace: namespace, Name: name}, c.says))
		})
	}
	_, err := g.Source.Kubectl(ctx, "delete", "namespace", namespace, "--timeout", "60s")
	must(t, err)
}

// keyFile holds a secret for a command that takes none itself.
func keyFile(t *testing.T, secret string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(file, []byte(secret), 0o600))
	return file
}

// TestBadPairs spoils one side's way to the repository: the ClusterPair says
// which side it is, and a Migration waits for it and says the same.
func TestBadPairs(t *testing.T) {
	g, ctx := besideOthers(t)
	for name, c := range map[string]struct {
		spoiled scenario.Cluster
		spoil   func(*scenario.ObjectStore)
		says    []string
	}{
		"source-key":       {g.Source, func(o *scenario.ObjectStore) { o.SecretKey = "wrong" }, []string{"StorageError", "keys were refused"}},
		"target-bucket":    {g.Target, func(o *scenario.ObjectStore) { o.Bucket = "nothere" }, []string{"TargetStorageError", `bucket "nothere" does not exist`}},
		"target-authority": {g.Target, func(o *scenario.ObjectStore) { o.CAFile = "" }, []string{"TargetStorageError", "certificate is not signed by"}},
		"target-elsewhere": {g.Target, func(o *scenario.ObjectStore) { o.Bucket += "/elsewhere" }, []string{"TargetStorageError", "the target cannot use the repository"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // Most of it is waiting for namespaces to end.
			namespace := "bad-pair-" + name
			for _, side := range []scenario.Cluster{g.Source, g.Target} {
				store := g.Store
				if side.Name == c.spoiled.Name {
					c.spoil(&store)
				}
				must(t, g.EnsureLocation(ctx, side, namespace, store))
			}
			manifest, err := g.Godwitctl(ctx, g.Target, "-n", namespace, "generate", "clusterpair", "west")
			must(t, err)
			must(t, g.Source.Apply(ctx, []byte(manifest)))
			must(t, g.Source.AwaitRefusal(ctx, scenario.Object{Kind: "clusterpairs.godwit.io", Namespace: namespace, Name: "west"}, c.says...))
			refused(ctx, t, g, namespace, migration(namespace, "m", "west", namespace), "m", append([]string{"PairNotReady"}, c.says[1:]...)...)
			must(t, g.StartOver(ctx, scenario.Vault(namespace, 0)))
		})
	}
}

func TestBadTokens(t *testing.T) {
	g, ctx := besideOthers(t)
	const namespace = "bad-tokens"
	for _, c := range []scenario.Cluster{g.Source, g.Target} {
		must(t, g.EnsureLocation(ctx, c, namespace, g.Store))
	}
	generate := func(name string, more ...string) []byte {
		out, err := g.Godwitctl(ctx, g.Target, append([]string{"-n", namespace, "generate", "clusterpair", name}, more...)...)
		must(t, err)
		return []byte(out)
	}
	remove := func(name string) {
		_, err := g.Source.Kubectl(ctx, "-n", namespace, "delete", "clusterpairs.godwit.io", name, "--timeout", "60s")
		must(t, err)
	}
	t.Run("used", func(t *testing.T) {
		manifest := generate("used")
		must(t, g.Source.Apply(ctx, manifest))
		must(t, g.AwaitPair(ctx, namespace, "used", scenario.Soon))
		remove("used")
		must(t, g.Source.Apply(ctx, manifest))
		must(t, g.Source.AwaitRefusal(ctx, scenario.Object{Kind: "clusterpairs.godwit.io", Namespace: namespace, Name: "used"}, "TokenUsed", "used already"))
		remove("used")
	})
	t.Run("expired", func(t *testing.T) {
		manifest := generate("expired", "--ttl", "1s")
		time.Sleep(2 * time.Second)
		must(t, g.Source.Apply(ctx, manifest))
		must(t, g.Source.AwaitRefusal(ctx, scenario.Object{Kind: "clusterpairs.godwit.io", Namespace: namespace, Name: "expired"}, "TokenExpired", "expired"))
		remove("expired")
	})
}
