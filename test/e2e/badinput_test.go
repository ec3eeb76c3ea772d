package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// says waits until an object's Ready condition is False with the words, and an
// event of the object says the same.
func says(ctx context.Context, t *testing.T, c scenario.Cluster, kind, namespace, name string, words ...string) {
	t.Helper()
	type object struct {
		Status struct {
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"status"`
	}
	has := func(text string) bool {
		for _, w := range words {
			if !strings.Contains(text, w) {
				return false
			}
		}
		return true
	}
	must(t, scenario.Await(ctx, time.Minute, kind+" "+name+" to say "+strings.Join(words, " … "), func(ctx context.Context) (bool, string, error) {
		o, err := scenario.Get[object](ctx, c, "-n", namespace, kind, name)
		if err != nil {
			return false, "", err
		}
		ready := meta.FindStatusCondition(o.Status.Conditions, api.ConditionReady)
		if ready == nil || ready.Status != metav1.ConditionFalse || !has(ready.Reason+" "+ready.Message) {
			return false, fmt.Sprintf("condition %+v", ready), nil
		}
		if strings.Contains(ready.Message, "\n") {
			return false, "", fmt.Errorf("the message is more than one line: %q", ready.Message)
		}
		events, err := c.Kubectl(ctx, "-n", namespace, "get", "events", "--field-selector", "type=Warning,involvedObject.name="+name,
			"--no-headers", "-o", "custom-columns=REASON:.reason,MESSAGE:.message")
		return has(strings.Join(strings.Fields(events), " ")), "events: " + events, err
	}))
}

const badNamespace = "bad"

// refused applies a Migration, waits for what it says, and sees that it leaves
// nothing behind.
func refused(ctx context.Context, t *testing.T, g *scenario.Ground, namespace, manifest, name string, words ...string) {
	t.Helper()
	must(t, g.Source.Apply(ctx, []byte(manifest)))
	says(ctx, t, g.Source, "migrations.godwit.io", namespace, name, words...)
	must(t, g.AwaitNothingLeft(ctx, time.Minute))
	must(t, g.DeleteMigration(ctx, namespace, name))
}

func TestBadMigrations(t *testing.T) {
	g, ctx := ground(t)
	app := scenario.Vault(badNamespace, 1)
	must(t, g.StartOver(ctx, app))
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
	t.Run("target that cannot be reached", func(t *testing.T) { unreachable(ctx, t, g) })
}

func withClaim(ctx context.Context, t *testing.T, g *scenario.Ground, class string, do func()) {
	t.Helper()
	must(t, g.Source.Apply(ctx, fmt.Appendf(nil, `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: claim, namespace: %s},
		spec: {accessModes: [ReadWriteOnce], storageClassName: %s, resources: {requests: {storage: 16Mi}}}}`, badNamespace, class)))
	do()
	_, err := g.Source.Kubectl(ctx, "-n", badNamespace, "delete", "pvc", "claim", "--timeout", "60s")
	must(t, err)
}

// unreachable takes the target away and brings it back: the Migration waits,
// says why, and then goes on by itself.
func unreachable(ctx context.Context, t *testing.T, g *scenario.Ground) {
	scale := func(replicas string) {
		_, err := g.Target.Kubectl(ctx, "-n", scenario.Namespace, "scale", scenario.Controller, "--replicas", replicas)
		must(t, err)
		must(t, g.Target.Rollout(ctx, scenario.Namespace, scenario.Controller, "60s"))
	}
	scale("0")
	must(t, scenario.Await(ctx, time.Minute, "the controller to be gone", func(ctx context.Context) (bool, string, error) {
		out, err := g.Target.Kubectl(ctx, "-n", scenario.Namespace, "get", "pods", "-l", "app.kubernetes.io/component=controller", "-o", "name")
		return out == "", out, err
	}))
	must(t, g.Source.Apply(ctx, []byte(migration(badNamespace, "m", "west", badNamespace))))
	says(ctx, t, g.Source, "migrations.godwit.io", badNamespace, "m", "cannot reach")
	must(t, g.AwaitNothingLeft(ctx, time.Minute))
	scale("1")
	m, err := g.AwaitMigration(ctx, badNamespace, "m", 2*time.Minute)
	must(t, err)
	if m.Status.Status != api.MigrationStatusSuccessful {
		t.Errorf("after the target came back: %s", scenario.Describe(m))
	}
	must(t, g.DeleteMigration(ctx, badNamespace, "m"))
}

func TestBadStores(t *testing.T) {
	g, ctx := ground(t)
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
				"--region", store.Region, "--access-key", store.AccessKey, "--secret-key", store.SecretKey}
			if store.CAFile != "" {
				args = append(args, "--ca-file", store.CAFile)
			}
			_, err := g.Godwitctl(ctx, g.Source, args...)
			must(t, err)
			says(ctx, t, g.Source, "backuplocations.godwit.io", namespace, name, c.says)
		})
	}
	_, err := g.Source.Kubectl(ctx, "delete", "namespace", namespace, "--timeout", "60s")
	must(t, err)
}

// TestBadPairs spoils one side's way to the repository: the ClusterPair says
// which side it is, and a Migration waits for it and says the same.
func TestBadPairs(t *testing.T) {
	g, ctx := ground(t)
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
			says(ctx, t, g.Source, "clusterpairs.godwit.io", namespace, "west", c.says...)
			refused(ctx, t, g, namespace, migration(namespace, "m", "west", namespace), "m", append([]string{"PairNotReady"}, c.says[1:]...)...)
			must(t, g.StartOver(ctx, scenario.Vault(namespace, 0)))
		})
	}
}

func TestBadTokens(t *testing.T) {
	g, ctx := ground(t)
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
		must(t, g.AwaitPair(ctx, namespace, "used", time.Minute))
		remove("used")
		must(t, g.Source.Apply(ctx, manifest))
		says(ctx, t, g.Source, "clusterpairs.godwit.io", namespace, "used", "TokenUsed", "used already")
		remove("used")
	})
	t.Run("expired", func(t *testing.T) {
		manifest := generate("expired", "--ttl", "1s")
		time.Sleep(2 * time.Second)
		must(t, g.Source.Apply(ctx, manifest))
		says(ctx, t, g.Source, "clusterpairs.godwit.io", namespace, "expired", "TokenExpired", "expired")
		remove("expired")
	})
}
