package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// staged is a Migration that brings a standby up to date and hands nothing over.
func staged(namespace, name, pair string) string {
	return strings.Replace(migration(namespace, name, pair, namespace), "startApplications: true", "stage: true", 1)
}

// peerSecrets are what the two sides of a pair hold of it.
func peerSecrets(ctx context.Context, t *testing.T, g *scenario.Ground, pairID string) (source, target corev1.Secret) {
	t.Helper()
	source, err := scenario.Get[corev1.Secret](ctx, g.Source, "-n", scenario.Namespace, "secret", "godwit-peer-outgoing-"+pairID)
	must(t, err)
	target, err = scenario.Get[corev1.Secret](ctx, g.Target, "-n", scenario.Namespace, "secret", "godwit-peer-incoming-"+pairID)
	must(t, err)
	return source, target
}

// TestRotated replaces a pair's password and sealing key while its volumes are read
// and written, and kills the controllers of both sides meanwhile.
func TestRotated(t *testing.T) {
	g, ctx := ground(t)
	app := scenario.Archive("rotated")
	must(t, g.Start(ctx, app))
	must(t, g.Fill(ctx, app))
	must(t, g.Pair(ctx, app.Namespace, "west"))
	pair, err := scenario.Get[api.ClusterPair](ctx, g.Source, "-n", app.Namespace, "clusterpairs.godwit.io", "west")
	must(t, err)
	first, _ := peerSecrets(ctx, t, g, pair.Status.PairID)
	must(t, g.Source.Apply(ctx, []byte(staged(app.Namespace, "before", "west"))))
	_, err = g.AwaitSuccess(ctx, app.Namespace, "before", scenario.Long)
	must(t, err)

	must(t, g.Source.Apply(ctx, []byte(staged(app.Namespace, "meanwhile", "west"))))
	must(t, scenario.Await(ctx, scenario.Long, "its volumes to be read", func(ctx context.Context) (bool, string, error) {
		all, err := scenario.Transfers(ctx, g.Source, app.Namespace)
		return len(all) > 0, fmt.Sprint(len(all), " transfers"), err
	}))
	_, err = g.Source.Kubectl(ctx, "-n", app.Namespace, "annotate", "clusterpairs.godwit.io", "west", api.AnnotationRotate+"=password,sealing-key")
	must(t, err)
	// Each stroke falls in another step of it.
	for _, c := range []scenario.Cluster{g.Source, g.Target, g.Source} {
		begun := time.After(700 * time.Millisecond)
		<-begun
		must(t, g.Kill(ctx, c, "godwitd controller"))
	}
	must(t, scenario.Await(ctx, scenario.Long, "the pair's secrets to be replaced", func(ctx context.Context) (bool, string, error) {
		p, err := scenario.Get[api.ClusterPair](ctx, g.Source, "-n", app.Namespace, "clusterpairs.godwit.io", "west")
		return p.Annotations[api.AnnotationRotate] == "", fmt.Sprintf("%q, %+v", p.Annotations[api.AnnotationRotate], p.Status.Conditions), err
	}))
	_, err = g.AwaitSuccess(ctx, app.Namespace, "meanwhile", scenario.Long)
	must(t, err)
	replaced(ctx, t, g, pair.Status.PairID, first)

	// By command, with nothing in between.
	second, _ := peerSecrets(ctx, t, g, pair.Status.PairID)
	for _, what := range []string{"password", "sealingkey"} {
		told, err := g.Godwitctl(ctx, g.Source, "-n", app.Namespace, "rotate", what, "west")
		must(t, err)
		if !strings.HasPrefix(told, "ClusterPair west has a new ") {
			t.Errorf("rotate %s: %q", what, told)
		}
	}
	replaced(ctx, t, g, pair.Status.PairID, second)

	// What the first two keys sealed goes on counting, and the third seals.
	must(t, g.Source.Apply(ctx, []byte(migration(app.Namespace, "after", "west", app.Namespace))))
	_, err = g.AwaitSuccess(ctx, app.Namespace, "after", scenario.Long)
	must(t, err)
	sealsCount(ctx, t, g, app.Namespace, 3)
	must(t, g.AwaitRunning(ctx, g.Target, app))
	findings, err := g.VerifyArchive(ctx, app)
	for _, f := range findings {
		t.Log(f)
	}
	must(t, err)
	for _, name := range []string{"after", "meanwhile", "before"} {
		must(t, g.DeleteMigration(ctx, app.Namespace, name))
	}
}

// replaced wants both sides to have the same new password and sealing key, and
// nothing under way.
func replaced(ctx context.Context, t *testing.T, g *scenario.Ground, pairID string, before corev1.Secret) {
	t.Helper()
	source, target := peerSecrets(ctx, t, g, pairID)
	for _, key := range []string{"repositoryPassword", "sealingKey"} {
		if string(source.Data[key]) == string(before.Data[key]) || len(source.Data[key]) == 0 {
			t.Errorf("the source has the same %s as before", key)
		}
	}
	if string(source.Data["repositoryPassword"]) != string(target.Data["repositoryPassword"]) {
		t.Error("the two sides have different passwords")
	}
	if string(source.Data["sealedBefore"]) != string(target.Data["sealedBefore"]) || len(source.Data["sealedBefore"]) == 0 {
		t.Errorf("the two sides know %d and %d bytes of what was sealed before", len(source.Data["sealedBefore"]), len(target.Data["sealedBefore"]))
	}
	for _, key := range []string{"nextRepositoryPassword", "nextSealingKey"} {
		if len(source.Data[key]) > 0 {
			t.Errorf("%s is still there", key)
		}
	}
}

// sealsCount waits until the target lists so many rounds, all of them to be trusted.
func sealsCount(ctx context.Context, t *testing.T, g *scenario.Ground, namespace string, rounds int) {
	t.Helper()
	must(t, scenario.Await(ctx, scenario.Long, fmt.Sprint(rounds, " rounds that count"), func(ctx context.Context) (bool, string, error) {
		all, err := scenario.Standbies(ctx, g.Target, namespace)
		if err != nil || len(all) != 1 || all[0].Status.Points == nil {
			return false, fmt.Sprint(len(all), " standbies"), err
		}
		good := 0
		for _, p := range all[0].Status.Points.Items {
			if p.Seal == api.SealRefused {
				return false, "", fmt.Errorf("round %s is refused: %s", p.Round, p.Reason)
			}
			good++
		}
		return good >= rounds, fmt.Sprint(good, " rounds"), nil
	}))
}
