package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// The bounds that rounds are held to on storage which tells changed blocks.
const (
	mostLag       = time.Minute
	mostUnchanged = 2 * time.Second
)

// roundsBench is a raw volume under replication. A filesystem would write by itself.
type roundsBench struct {
	t         *testing.T
	g         *scenario.Ground
	ctx       context.Context
	namespace string
	// megabytes is how large the volume is, filled how much of it holds data at first.
	megabytes, filled int64
}

// TestBenchRounds measures, with a volume of GODWIT_BENCH_ROUNDS that is full, or holds
// GODWIT_BENCH_FILL of data (it takes three times that of this machine's disk): the lag
// of continuous rounds between which 1 % of it changes, that is, the age of what could be
// failed over to, and what a round costs in which nothing did. How old what the target
// already holds is, it tells beside that. The times mean something on a machine that does nothing else.
func TestBenchRounds(t *testing.T) {
	size := os.Getenv("GODWIT_BENCH_ROUNDS")
	if size == "" {
		t.Skip("measures for minutes to hours: make bench-rounds SIZE=20GiB")
	}
	megabytes := megabytesOf(t, size)
	filled := megabytes
	if fill := os.Getenv("GODWIT_BENCH_FILL"); fill != "" {
		filled = min(megabytesOf(t, fill), megabytes)
	}
	g, _ := besideOthers(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Hour)
	t.Cleanup(cancel)
	b := &roundsBench{t: t, g: g, ctx: ctx, namespace: "bench-rounds", megabytes: max(megabytes, 100), filled: filled}
	b.start()
	t.Cleanup(func() { afterFailover(context.WithoutCancel(ctx), t, g, b.namespace) })
	b.lag(5)
	_, err := g.Godwitctl(ctx, g.Source, "suspend", "migrationschedule", "dr", "-n", b.namespace)
	must(t, err)
	b.unchanged(5)
}

func megabytesOf(t *testing.T, size string) int64 {
	t.Helper()
	quantity, err := resource.ParseQuantity(strings.TrimSuffix(size, "B"))
	must(t, err)
	return quantity.Value() >> 20
}

// start fills the volume, and brings it to the target for the first time.
func (b *roundsBench) start() {
	b.t.Helper()
	must(b.t, b.g.Source.Apply(b.ctx, fmt.Appendf(nil, `
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: %[1]s}
spec: {accessModes: [ReadWriteOnce], volumeMode: Block, storageClassName: csi-block, resources: {requests: {storage: %[2]dMi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: writer, namespace: %[1]s}
spec:
  replicas: 1
  strategy: {type: Recreate}
  selector: {matchLabels: {app: writer}}
  template:
    metadata: {labels: {app: writer}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: writer, image: %[3]q, imagePullPolicy: IfNotPresent, command: [sleep, infinity], volumeDevices: [{name: data, devicePath: /dev/data}]}
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
`, b.namespace, b.megabytes, b.g.AppImage.Name)))
	must(b.t, b.g.Source.Rollout(b.ctx, b.namespace, "deployment/writer"))
	b.write(0, b.filled)
	must(b.t, b.g.Pair(b.ctx, b.namespace, "west"))
	_, err := b.g.Godwitctl(b.ctx, b.g.Source, "create", "migrationschedule", "dr", "-n", b.namespace, "-c", "west", "--namespaces", b.namespace,
		"--continuous", "--min-interval-seconds", "1")
	must(b.t, err)
	began := time.Now()
	b.awaitRound(time.Time{}, 3*time.Hour, nil)
	b.t.Logf("the first round of %d MiB, %d of them data, took %s", b.megabytes, b.filled, time.Since(began).Round(time.Second))
}

// write puts new content into so many MiB of the volume.
func (b *roundsBench) write(from, megabytes int64) {
	b.t.Helper()
	_, err := b.g.Source.Script(b.ctx, b.namespace, "deployment/writer",
		fmt.Sprintf("dd if=/dev/urandom of=/dev/data bs=1M seek=%d count=%d conv=notrunc,fsync 2>&1", from, megabytes))
	must(b.t, err)
}

// awaitRound waits for a good run that was due after a moment, and shows each look at
// the schedule's last good run.
func (b *roundsBench) awaitRound(after time.Time, patience time.Duration, look func(api.MigrationScheduleStatus)) api.ScheduledMigration {
	b.t.Helper()
	var last api.ScheduledMigration
	must(b.t, scenario.Await(b.ctx, patience, "a good run of what was written", func(ctx context.Context) (bool, string, error) {
		s, err := scenario.Get[api.MigrationSchedule](ctx, b.g.Source, "-n", b.namespace, "migrationschedule", "dr")
		if err != nil || s.Status.LastSuccess == nil {
			return false, scenarioReady(s), err
		}
		last = *s.Status.LastSuccess
		if look != nil {
			look(s.Status)
		}
		return last.CreationTimestamp.After(after), scenarioReady(s), nil
	}))
	return last
}

// lag changes 1 % of the volume before each round, in another place each time.
func (b *roundsBench) lag(rounds int64) {
	b.t.Helper()
	part, worst, held := max(b.megabytes/100, 1), time.Duration(0), time.Duration(0)
	// The first round was of all of the volume.
	b.awaitRound(time.Now(), 10*mostLag, nil)
	for round := range rounds {
		began := time.Now()
		b.write((round*17+3)*part%(b.megabytes-part), part)
		// Times of the API are whole seconds: a run of the same second may be older.
		b.awaitRound(time.Now().Add(time.Second), 10*mostLag, func(s api.MigrationScheduleStatus) {
			held = max(held, time.Since(s.LastSuccess.CreationTimestamp.Time))
			if s.LastSealed != nil {
				worst = max(worst, time.Since(s.LastSealed.Taken.Time))
			}
		})
		v := b.since(began)
		b.t.Logf("round %d: read %d, changed %d, uploaded %d, written on the target %d; worst lag so far %s, of what the target holds %s",
			round, v.BytesRead, v.BytesChanged, v.BytesUploaded, v.BytesWritten, worst.Round(100*time.Millisecond), held.Round(100*time.Millisecond))
		if v.BytesChanged < part<<20 {
			b.t.Errorf("of %d MiB that were written the rounds since have %d bytes", part, v.BytesChanged)
		}
	}
	if worst == 0 || worst >= mostLag {
		b.t.Errorf("the lag came to %s with 1 %% of %d MiB changed per round, and %s is the most", worst, b.megabytes, mostLag)
	}
}

// since sums what the rounds did whose snapshots are not older than that: what is
// written while one is taken is in that one and the next.
func (b *roundsBench) since(began time.Time) (sum api.VolumeRound) {
	b.t.Helper()
	out, err := b.g.Source.Kubectl(b.ctx, "-n", b.namespace, "get", "migrations.godwit.io", "-o", "json")
	must(b.t, err)
	var list api.MigrationList
	must(b.t, json.Unmarshal([]byte(out), &list))
	for _, m := range list.Items {
		for _, v := range m.Status.Volumes {
			if v.Taken != nil && !v.Taken.Time.Before(began.Truncate(time.Second)) {
				sum.BytesRead += v.BytesRead
				sum.BytesChanged += v.BytesChanged
				sum.BytesUploaded += v.BytesUploaded
				sum.BytesWritten += v.BytesWritten
			}
		}
	}
	return sum
}

// unchanged stages the volume with nothing written, and holds a round against what a
// snapshot of it takes by itself.
func (b *roundsBench) unchanged(rounds int) {
	b.t.Helper()
	snapshot, own := b.snapshotTime(rounds), time.Duration(0)
	for round := range rounds + 1 {
		name := fmt.Sprintf("unchanged-%d", round)
		began := time.Now()
		must(b.t, b.g.Source.Apply(b.ctx, []byte(migration(b.namespace, name, "west", b.namespace)+"  stage: true\n")))
		m, err := b.g.AwaitSuccess(b.ctx, b.namespace, name, 10*time.Minute)
		must(b.t, err)
		took := time.Since(began)
		v := m.Status.Volumes[0]
		b.t.Logf("unchanged round %d: %s; read %d by %s, changed %d, uploaded %d, written on the target %d",
			round, took.Round(10*time.Millisecond), v.BytesRead, v.Rung, v.BytesChanged, v.BytesUploaded, v.BytesWritten)
		_, err = b.g.Source.Kubectl(b.ctx, "-n", b.namespace, "wait", "migrations.godwit.io/"+name, "--for=condition=Released", "--timeout=60s")
		must(b.t, err)
		if round == 0 {
			continue // It may have what was written last, or wait for a run of the schedule.
		}
		own += took
		if v.BytesRead > 0 || v.BytesChanged > 0 || v.BytesWritten > 0 {
			b.t.Errorf("a round in which nothing changed read %d, sent %d and wrote %d bytes of data", v.BytesRead, v.BytesChanged, v.BytesWritten)
		}
	}
	beyond := (own / time.Duration(rounds)) - snapshot
	b.t.Logf("a round in which nothing changed takes %s beyond its snapshot's %s", beyond.Round(10*time.Millisecond), snapshot.Round(10*time.Millisecond))
	if beyond >= mostUnchanged {
		b.t.Errorf("a round in which nothing changed takes %s beyond its snapshot, and %s is the most", beyond, mostUnchanged)
	}
}

// snapshotTime is how long the storage takes for a snapshot of the volume, as seen by
// whoever asks for one and waits.
func (b *roundsBench) snapshotTime(times int) time.Duration {
	b.t.Helper()
	class, err := b.g.Source.Kubectl(b.ctx, "-n", b.namespace, "get", "volumesnapshots", "-o", "jsonpath={.items[0].spec.volumeSnapshotClassName}")
	must(b.t, err)
	var sum time.Duration
	for range times {
		began := time.Now()
		must(b.t, b.g.Source.Apply(b.ctx, fmt.Appendf(nil, `
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshot
metadata: {name: by-hand, namespace: %s}
spec: {volumeSnapshotClassName: %s, source: {persistentVolumeClaimName: data}}
`, b.namespace, strings.TrimSpace(class))))
		_, err := b.g.Source.Kubectl(b.ctx, "-n", b.namespace, "wait", "volumesnapshot/by-hand", "--for=jsonpath={.status.readyToUse}=true", "--timeout=120s")
		must(b.t, err)
		sum += time.Since(began)
		_, err = b.g.Source.Kubectl(b.ctx, "-n", b.namespace, "delete", "volumesnapshot/by-hand", "--timeout=60s")
		must(b.t, err)
	}
	return sum / time.Duration(times)
}
