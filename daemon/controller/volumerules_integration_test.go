package controller_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// TestVolumeRules leaves one claim out, gives another a larger volume of another
// class, and refuses what would make one smaller.
func TestVolumeRules(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	r.claim("scratch")
	larger := resource.MustParse("2Gi")
	r.migration("move", func(s *api.MigrationSpec) {
		s.StorageClassMapping = map[string]string{"fast": "gold"}
		s.Volumes = []api.VolumeRule{
			{Name: "scratch", Action: api.VolumeSkip},
			{StorageClass: "fast", TargetStorageClass: "silver", Size: &larger, AccessModes: []api.AccessMode{"ReadWriteOncePod"}},
		}
	})
	m := r.until("move", "its end", ended, r.carryOut("move"))
	if m.Status.Status != api.MigrationStatusSuccessful || len(m.Status.Volumes) != 1 || m.Status.Volumes[0].PersistentVolumeClaim != "data" {
		t.Fatalf("it ended as %s with %+v", m.Status.Status, m.Status.Volumes)
	}
	got := r.target.begun[0].Volumes[0]
	if got.StorageClass != "silver" || got.SizeBytes != larger.Value() || len(got.AccessModes) != 1 || got.AccessModes[0] != "ReadWriteOncePod" {
		t.Errorf("the target was asked for %+v", got)
	}
	if selection := string(r.target.begun[0].Selection); !strings.Contains(selection, `"skippedClaims":["`+r.ns+`/scratch"]`) {
		t.Errorf("the target would send back what was left out: %s", selection)
	}
	smaller := resource.MustParse("1Mi")
	for _, c := range []struct {
		name string
		rule api.VolumeRule
		says string
	}{
		{"smaller", api.VolumeRule{Name: "data", Size: &smaller}, "a volume never gets smaller"},
		{"files", api.VolumeRule{Name: "data", Method: api.MethodFilesystem}, ""},
	} {
		name := c.name
		r.migration(name, func(s *api.MigrationSpec) { s.Volumes = []api.VolumeRule{c.rule} })
		done := func(m *api.Migration) bool { return ended(m) || len(m.Status.Volumes) > 0 }
		m := r.until(name, "an answer", done)
		if c.says == "" {
			if v := m.Status.Volumes[0]; v.Method != api.MethodFilesystem {
				t.Errorf("%s: %+v", name, v)
			}
			continue
		}
		if m.Status.Status != api.MigrationStatusFailed || !strings.Contains(ready(m).Message, c.says) {
			t.Errorf("%s: %s %+v", name, m.Status.Status, ready(m))
		}
	}
}

// TestLimits refuses more namespaces than are allowed before anything is done.
func TestLimits(t *testing.T) {
	r := newRig(t)
	_, other := connect(t)
	one := int32(1)
	r.migrations.AdminNamespace = r.ns
	r.claim("data")
	r.claim("more")
	r.migration("wide", func(s *api.MigrationSpec) {
		s.Namespaces = append(s.Namespaces, other)
		s.Limits = &api.Limits{Namespaces: &one}
	})
	m := r.until("wide", "its end", ended)
	if m.Status.Status != api.MigrationStatusFailed || !strings.Contains(ready(m).Message, "it moves 2 namespaces, and spec.limits.namespaces is 1") {
		t.Errorf("%s: %+v", m.Status.Status, ready(m))
	}
	r.migration("large", func(s *api.MigrationSpec) { s.Limits = &api.Limits{Volumes: &one} })
	if m := r.until("large", "its end", ended, r.carryOut("large")); m.Status.Status != api.MigrationStatusSuccessful {
		t.Errorf("a warning ended it as %s", m.Status.Status)
	}
}
