package controller_test

import (
	"testing"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
)

// way is how a volume's content came into the repository.
type way struct {
	asked, exposed bool
}

// stageBy stages, and says what was done for it.
func (r *rig) stageBy(name string, change func(*api.MigrationSpec)) (api.MigrationVolumeInfo, way) {
	r.t.Helper()
	var w way
	r.migration(name, change)
	m := r.until(name, "its end", ended, func() {
		for _, t := range r.transfersOf(r.get(name)) {
			w.asked = w.asked || t.Spec.Direction == api.Keep
			w.exposed = w.exposed || t.Spec.Direction == api.Upload
		}
	}, r.carryOut(name), func() { r.now = r.now.Add(time.Second) })
	if m.Status.Status != api.MigrationStatusSuccessful {
		r.t.Fatalf("%s ended as %+v", name, m.Status)
	}
	return m.Status.Volumes[0], w
}

func (r *rig) want(name string, got, want way) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("%s went by %+v, and not by %+v", name, got, want)
	}
}

// TestUnchangedIsNotExposed stages a volume whose storage tells what changed: where
// that is nothing, it is taken at its word, but not for long, and not at the last.
func TestUnchangedIsNotExposed(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	_, by := r.stageBy("scanned", staged)
	r.want("scanned", by, way{exposed: true})
	r.method = snapshot.MethodDelta
	was, by := r.stageBy("first-delta", staged)
	r.want("first-delta", by, way{exposed: true})

	r.storage.taken = r.storage.taken.Add(time.Minute)
	kept, by := r.stageBy("kept", staged)
	r.want("kept", by, way{asked: true})
	if kept.Image == "" || kept.Image == was.Image || kept.Node != was.Node || !kept.Read.Equal(was.Read) || kept.Base != was.Image {
		t.Errorf("what was kept is %+v after %+v", kept, was)
	}
	r.changed = "the storage told that 4096 bytes changed"
	read, by := r.stageBy("changed", staged)
	r.want("changed", by, way{asked: true, exposed: true})
	if read.Base != kept.Image || !read.Read.Equal(read.Taken) || read.Read.Equal(kept.Read) {
		t.Errorf("what had changed is %+v after %+v", read, kept)
	}
	r.changed, r.mute = "", true
	_, by = r.stageBy("mute", staged)
	r.want("mute", by, way{asked: true, exposed: true})
	r.mute = false
	r.storage.taken = r.storage.taken.Add(10 * time.Minute)
	_, by = r.stageBy("long-after", staged)
	r.want("long-after", by, way{exposed: true})
	_, by = r.stageBy("move", nil)
	r.want("move", by, way{exposed: true})
	if left := r.left(r.get("move")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
