package kopiastore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// TestObjectLock has somebody with the bucket's keys delete all that there is: no
// locked version goes, and what he hid can be shown again.
func TestObjectLock(t *testing.T) {
	t.Parallel()
	s := snapshottest.StartGuardedObjectStore(t)
	l := s.Location(t, "locked")
	client, _, err := newClient(l, probeTries)
	if err != nil {
		t.Fatal(err)
	}
	// A bucket gets object lock when it is made, or never.
	if err := os.Remove(filepath.Join(s.Root, l.Bucket)); err != nil {
		t.Fatal(err)
	}
	if err := client.MakeBucket(t.Context(), l.Bucket, minio.MakeBucketOptions{Region: l.Region, ObjectLocking: true}); err != nil {
		t.Fatal(err)
	}
	l.RetentionMode, l.RetentionPeriod = "COMPLIANCE", 72*time.Hour
	traits, err := New().Probe(t.Context(), l)
	if err != nil || traits.ObjectLock != snapshot.TraitOn || traits.Versioning != snapshot.TraitOn {
		t.Fatalf("%+v, %v", traits, err)
	}
	r := open(t, eager(), l)
	data := noise(12<<20, 1)
	image, _, err := backup(t, r, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Maintain(t.Context(), snapshot.MaintainRequest{Full: true}); err != nil {
		t.Fatal(err)
	}

	hidden := 0
	for _, o := range versions(t, client, l) {
		if o.IsDeleteMarker {
			continue
		}
		err := client.RemoveObject(t.Context(), l.Bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID, GovernanceBypass: true})
		if err == nil && !neverLocked(strings.TrimPrefix(o.Key, l.Prefix)) {
			t.Errorf("%s was deleted for good", o.Key)
		}
		if o.IsLatest {
			hidden++
			if err := client.RemoveObject(t.Context(), l.Bucket, o.Key, minio.RemoveObjectOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if hidden < 5 {
		t.Fatalf("only %d objects were there", hidden)
	}
	fresh := l
	fresh.CacheDir = t.TempDir()
	if _, err := New().Open(t.Context(), fresh, false); err == nil {
		t.Fatal("it opens, although everything was hidden")
	}
	for _, o := range versions(t, client, l) {
		if o.IsDeleteMarker && o.IsLatest {
			if err := client.RemoveObject(t.Context(), l.Bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID}); err != nil {
				t.Fatal(err)
			}
		}
	}
	holds(t, open(t, New(), fresh), image.ID, data)
}

// neverLocked are blobs that kopia does not lock, and that nothing is lost with: when upkeep
// ran, which sessions write, and what a probe left.
func neverLocked(id string) bool {
	return id == "kopia.maintenance" || strings.HasPrefix(id, "s") || strings.HasPrefix(id, "godwit-probe")
}

func versions(t *testing.T, client *minio.Client, l snapshot.Location) []minio.ObjectInfo {
	t.Helper()
	var all []minio.ObjectInfo
	for o := range client.ListObjects(t.Context(), l.Bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		all = append(all, o)
	}
	return all
}

// TestLockNeedsItsBucket refuses a lock that the bucket cannot give.
func TestLockNeedsItsBucket(t *testing.T) {
	t.Parallel()
	l := snapshottest.StartGuardedObjectStore(t).Location(t, "plain")
	l.RetentionMode, l.RetentionPeriod = "GOVERNANCE", 72*time.Hour
	if _, err := New().Probe(t.Context(), l); err == nil || !strings.Contains(err.Error(), "made without object lock") {
		t.Errorf("got %v", err)
	}
	l.RetentionPeriod = time.Hour
	if _, err := New().Probe(t.Context(), l); err == nil || !strings.Contains(err.Error(), "too short") {
		t.Errorf("got %v", err)
	}
}
