package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/godwit-io/godwit/test/scenario"
)

// TestStorageIsAskedWhatToRead moves a volume on a storage that tracks blocks:
// once as it is, once while it lies, once while it does not answer. The bytes
// arrive each time, and each time it is told how they were read.
func TestStorageIsAskedWhatToRead(t *testing.T) {
	severalCases(t)
	for _, c := range []struct {
		namespace string
		faults    []string
		want      []string
	}{
		{"blocks-told", nil, []string{"MethodChosen", "by method Allocated", "the storage told that", "no delta (NoBase)"}},
		{"blocks-cut", []string{"GetMetadataAllocated cut=1 fail=1"}, []string{"MethodChosen", "by method Allocated"}},
		{"blocks-lied", []string{"GetMetadataAllocated lie=empty"}, []string{"SteppedDown", "by method Scan", "(Lied)", "holds data, and no allocated block has it"}},
		{"blocks-off", []string{"GetMetadataAllocated fail=* code=FAILED_PRECONDITION"}, []string{"SteppedDown", "by method Scan", "(NotTracked)"}},
	} {
		t.Run(c.namespace, func(t *testing.T) {
			g, ctx := besideOthers(t)
			spoil(ctx, t, g, c.namespace, c.faults...)
			app := scenario.Vault(c.namespace, 8)
			must(t, g.StartPaired(ctx, app, "west"))
			must(t, g.Source.Apply(ctx, []byte(migration(app.Namespace, "m", "west", app.Namespace))))
			_, err := g.AwaitSuccess(ctx, app.Namespace, "m", scenario.Long)
			must(t, err)
			must(t, g.AwaitRunning(ctx, g.Target, app))
			finding, err := g.VerifyTree(ctx, app.Data())
			must(t, err)
			t.Log(finding)
			transferTold(ctx, t, g, app.Namespace, c.want)
			must(t, g.DeleteMigration(ctx, app.Namespace, "m"))
			must(t, g.AwaitNothingLeftOf(ctx, app.Namespace, scenario.Soon))
		})
	}
}

// spoil has the source's storage misbehave for the volumes of namespaces of such
// names, until the test ends.
func spoil(ctx context.Context, t *testing.T, g *scenario.Ground, namespaces string, faults ...string) {
	t.Helper()
	t.Cleanup(func() { must(t, g.Spoil(context.WithoutCancel(ctx), g.Source, namespaces)) })
	must(t, g.Spoil(ctx, g.Source, namespaces, faults...))
}

// transferTold looks for one event of the source's transfers about the
// namespace that has all the words.
func transferTold(ctx context.Context, t *testing.T, g *scenario.Ground, namespace string, words []string) {
	t.Helper()
	must(t, scenario.Await(ctx, 20*time.Second, "the events of the transfer", func(ctx context.Context) (bool, string, error) {
		events, err := scenario.Get[corev1.EventList](ctx, g.Source, "-n", scenario.Namespace, "events", "--field-selector", "involvedObject.kind=VolumeTransfer")
		var seen []string
	events:
		for _, e := range events.Items {
			told := e.Reason + " " + e.Message
			if !strings.Contains(told, namespace+"/") {
				continue
			}
			seen = append(seen, told)
			for _, word := range words {
				if !strings.Contains(told, word) {
					continue events
				}
			}
			t.Log(told)
			return true, "", nil
		}
		return false, strings.Join(seen, "; "), err
	}))
}

// TestStorageIsProved checks a storage that is sound, and the same one while it
// leaves out a block in one answer of ten.
func TestStorageIsProved(t *testing.T) {
	g, ctx := besideOthers(t)
	const checked = "godwit-cbt-check-*"
	check := func() (string, error) {
		return g.Godwitctl(ctx, g.Source, "volume", "cbt-check", "--storage-class", "csi-block", "--size", "64Mi")
	}
	out, err := check()
	must(t, err)
	if !strings.Contains(out, "Driver csi.test.godwit.io told every block that changed") || strings.Contains(out, "FAULT") {
		t.Errorf("a sound storage: %s", out)
	}
	spoil(ctx, t, g, checked, "GetMetadataDelta lie=omit fail=4")
	out, err = check()
	if err == nil || strings.Count(out, "FAULT") != 1 || !strings.Contains(out, "asked what changed from snapshot 0 to 3, it leaves out") {
		t.Errorf("a storage that leaves out a block: %v: %s", err, out)
	}
	must(t, g.AwaitNothingLeftOf(ctx, checked, scenario.Soon))
	left, err := g.Source.Kubectl(ctx, "get", "namespaces", "-o", "name")
	if err != nil || strings.Contains(left, "cbt-check") {
		t.Errorf("left behind: %s (%v)", left, err)
	}
}

// TestRoundsReadWhatChanged stages a volume, changes a little of it, and moves
// it: the second round asks the storage for what changed since the first, and
// is right all the same where the storage has lost that.
func TestRoundsReadWhatChanged(t *testing.T) {
	severalCases(t)
	for _, c := range []struct {
		namespace string
		faults    []string
		want      []string
	}{
		{"blocks-delta", nil, []string{"MethodChosen", "by method Delta", "bytes changed since image"}},
		{"blocks-lost", []string{"lose-base"}, []string{"SteppedDown", "by method Allocated", "no delta (BaseGone)"}},
	} {
		t.Run(c.namespace, func(t *testing.T) {
			g, ctx := besideOthers(t)
			spoil(ctx, t, g, c.namespace, c.faults...)
			app := scenario.Vault(c.namespace, 8)
			must(t, g.StartPaired(ctx, app, "west"))
			for _, m := range []struct{ name, stage string }{{"first", "true"}, {"second", "false"}} {
				manifest := migration(app.Namespace, m.name, "west", app.Namespace) + "  stage: " + m.stage + "\n"
				if m.stage == "true" {
					manifest = strings.ReplaceAll(manifest, "startApplications: true", "startApplications: false")
				}
				must(t, g.Source.Apply(ctx, []byte(manifest)))
				_, err := g.AwaitSuccess(ctx, app.Namespace, m.name, scenario.Long)
				must(t, err)
				if m.stage == "true" {
					_, err = g.Source.Script(ctx, app.Namespace, "deployment/vault",
						"dd if=/dev/urandom of=/data/later bs=1024 count=300 2>/dev/null && rm -f /data/none && sync")
					must(t, err)
				}
			}
			must(t, g.AwaitRunning(ctx, g.Target, app))
			finding, err := g.VerifyTree(ctx, app.Data())
			must(t, err)
			t.Log(finding)
			transferTold(ctx, t, g, app.Namespace, c.want)
			for _, name := range []string{"first", "second"} {
				must(t, g.DeleteMigration(ctx, app.Namespace, name))
			}
			must(t, g.AwaitNothingLeftOf(ctx, app.Namespace, scenario.Soon))
		})
	}
}
