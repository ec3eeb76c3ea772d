package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/cbt"
)

// storage is a Tracker whose snapshots are byte slices by name, which are their
// own handles too. It tells the truth unless told otherwise.
type storage struct {
	mu        sync.Mutex
	snapshots map[string][]byte
	nobody    error // of About
	delta     error
	allocated error
	// spoil changes what is told.
	spoil  func(*cbt.Map)
	asked  []string
	open   int
	driver string
}

func (s *storage) About(_ context.Context, of api.TransferSnapshot) (Answers, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.driver = of.Driver
	if s.nobody != nil {
		return nil, s.nobody
	}
	s.open++
	return &told{s, of.Name}, nil
}

type told struct {
	storage *storage
	name    string
}

func (a *told) Close() error {
	a.storage.mu.Lock()
	defer a.storage.mu.Unlock()
	a.storage.open--
	return nil
}

func (a *told) Allocated(context.Context) (cbt.Map, error) {
	return a.tell("allocated", nil, a.storage.allocated)
}

func (a *told) Delta(_ context.Context, base string) (cbt.Map, error) {
	return a.tell("delta from "+base, a.storage.snapshots[base], a.storage.delta)
}

func (a *told) tell(what string, base []byte, err error) (cbt.Map, error) {
	s := a.storage
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, what)
	if err != nil {
		return cbt.Map{}, err
	}
	const block = 4 << 10
	target := s.snapshots[a.name]
	m := cbt.Map{Capacity: int64(len(target)), Extents: []snapshot.Extent{}}
	for at := 0; at < len(target); at += block {
		end := min(at+block, len(target))
		was := make([]byte, end-at)
		if at < len(base) {
			copy(was, base[at:])
		}
		if !bytes.Equal(was, target[at:end]) {
			m.Extents = append(m.Extents, snapshot.Extent{Offset: int64(at), Length: int64(end - at)})
		}
	}
	if s.spoil != nil {
		s.spoil(&m)
	}
	return m, nil
}

func (r *rig) snapshot(name string, b []byte) *api.TransferSnapshot {
	if r.tracker.snapshots == nil {
		r.tracker.snapshots = map[string][]byte{}
	}
	r.tracker.snapshots[name] = b
	return &api.TransferSnapshot{Driver: "disk.example.com", Name: name}
}

// uploadOf uploads content that a storage can be asked about.
func (r *rig) uploadOf(name string, b []byte, base *api.TransferBase) {
	r.t.Helper()
	r.publish("pv-"+name, b)
	r.transfer(name, api.VolumeTransferSpec{
		Direction: api.Upload, Round: name, Mount: api.VolumeMount{PersistentVolume: "pv-" + name},
		Snapshot: r.snapshot(name, b), Base: base,
	})
}

// wantImage applies the image and compares.
func (r *rig) wantImage(d *daemon, name, image string, want []byte) {
	r.t.Helper()
	dst := r.publish("pv-check-"+name, make([]byte, len(want)))
	r.apply("check-"+name, "pv-check-"+name, image, "")
	if s := d.finish("check-" + name).Status; s.Phase != api.TransferSucceeded {
		r.t.Fatalf("status %+v", s)
	}
	r.wantFile(dst, want)
}

func (r *rig) counted(method, missed string) float64 {
	r.t.Helper()
	families, err := r.metrics.Gather()
	r.must(err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "godwit_uploads_total" && labels["method"] == method && labels["missed"] == missed {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// silent is a device that does not tell what it has allocated.
type silent struct{ Source }

func (silent) Allocated() ([]snapshot.Extent, error) { return nil, errors.ErrUnsupported }

// blocky is content of volumes that are larger than a segment of an image, with
// much that is zero.
func blocky(seed uint64, size int) []byte {
	b := make([]byte, size)
	for at := 0; at+1<<20 <= size; at += 4 << 20 {
		copy(b[at:at+1<<20], content(seed+uint64(at), 1<<20))
	}
	return b
}

func TestTheLadderFromTheTop(t *testing.T) {
	r := newRig(t)
	r.devices.silent = true
	first := blocky(1, 12<<20+512)
	second := slices.Clone(first)
	copy(second[5<<20:], "changed")
	clear(second[8<<20 : 9<<20]) // what was data is none now
	d := r.daemon()
	r.uploadOf("s1", first, nil)
	s := d.finish("s1").Status
	condition := meta.FindStatusCondition(s.Conditions, api.ConditionBestMethod)
	if s.Method != "Allocated" || condition == nil || condition.Status != metav1.ConditionTrue || condition.Reason != "Allocated" {
		t.Fatalf("status %+v", s)
	}
	if want := "the storage told that 2359296 of 12583424 bytes are allocated; no delta (NoBase): no base was given"; s.MethodReason != want || condition.Message != want {
		t.Fatalf("reason %q, condition %q, want %q", s.MethodReason, condition.Message, want)
	}
	if p := s.Progress; p.BytesRead > 3<<20 {
		t.Errorf("%d bytes were read, and 2.25 MiB are allocated", p.BytesRead)
	}
	r.wantImage(d, "s1", s.Image, first)
	r.uploadOf("s2", second, &api.TransferBase{Image: s.Image, SnapshotHandle: "s1"})
	s2 := d.finish("s2").Status
	if s2.Method != "Delta" || !meta.IsStatusConditionTrue(s2.Conditions, api.ConditionBestMethod) || s2.Progress.BytesRead > 3<<20 {
		t.Fatalf("status %+v", s2)
	}
	r.wantImage(d, "s2", s2.Image, second)
	if r.tracker.open != 0 || r.tracker.driver != "disk.example.com" {
		t.Errorf("%d connections were left open, driver %q", r.tracker.open, r.tracker.driver)
	}
	if r.counted("Allocated", "") != 1 || r.counted("Delta", "") != 1 {
		t.Error("the uploads were not counted")
	}
	if told := r.all(); strings.Count(told, "MethodChosen") != 2 || strings.Contains(told, "SteppedDown") {
		t.Errorf("events %s", told)
	}
	// Nothing changed.
	r.uploadOf("s3", second, &api.TransferBase{Image: s2.Image, SnapshotHandle: "s2"})
	s3 := d.finish("s3").Status
	if s3.Method != "Delta" || s3.Progress.BytesRead != 0 {
		t.Errorf("status %+v", s3)
	}
	r.wantImage(d, "s3", s3.Image, second)
}

// all takes the events that were told.
func (r *rig) all() string {
	var all []string
	for {
		select {
		case e := <-r.events.Events:
			all = append(all, e)
		default:
			return strings.Join(all, "\n")
		}
	}
}

func failure(reason cbt.Reason, code codes.Code) error {
	return &cbt.Error{Reason: reason, Asked: "blocks", Err: status.Error(code, "no")}
}

// TestSteppingDown gives each fault once and holds that the image is right all
// the same, and that the fault is told.
func TestSteppingDown(t *testing.T) {
	omit := func(m *cbt.Map) { m.Extents = m.Extents[:0] }
	r := newRig(t)
	r.devices.silent = true
	first, second := blocky(1, 6<<20), blocky(2, 6<<20)
	d := r.daemon()
	r.uploadOf("s1", first, nil)
	image := d.finish("s1").Status.Image
	for name, c := range map[string]struct {
		fault  func(*storage)
		base   api.TransferBase
		method string
		reason string
	}{
		"base lost": {func(s *storage) { s.delta = failure(cbt.BaseGone, codes.NotFound) }, api.TransferBase{}, "Allocated", "BaseGone"},
		"not tracked": {func(s *storage) {
			s.delta, s.allocated = failure(cbt.NotTracked, codes.FailedPrecondition), failure(cbt.NotTracked, codes.FailedPrecondition)
		}, api.TransferBase{}, "Scan", "NotTracked"},
		"delta only": {func(s *storage) { s.delta = failure(cbt.OutOfRange, codes.OutOfRange) }, api.TransferBase{}, "Allocated", "OutOfRange"},
		"nobody":     {func(s *storage) { s.nobody = failure(cbt.NotServed, codes.NotFound) }, api.TransferBase{}, "Scan", "NotServed"},
		"not allowed": {func(s *storage) {
			s.delta, s.allocated = failure(cbt.Denied, codes.PermissionDenied), failure(cbt.Denied, codes.PermissionDenied)
		}, api.TransferBase{}, "Scan", "Denied"},
		"lies":              {func(s *storage) { s.delta, s.allocated = failure(cbt.Lied, codes.OK), failure(cbt.Lied, codes.OK) }, api.TransferBase{}, "Scan", "Lied"},
		"leaves out all":    {func(s *storage) { s.spoil = omit }, api.TransferBase{}, "Scan", "Lied"},
		"larger than it is": {func(s *storage) { s.spoil = func(m *cbt.Map) { m.Capacity *= 2 } }, api.TransferBase{}, "Scan", "Lied"},
		"image gone":        {func(*storage) {}, api.TransferBase{Image: "0123456789abcdef0123456789abcdef"}, "Allocated", "BaseGone"},
		"smaller than it is": {func(s *storage) {
			s.spoil = func(m *cbt.Map) { m.Capacity = 1 << 20; m.Extents = []snapshot.Extent{{Offset: 0, Length: 1 << 20}} }
		}, api.TransferBase{}, "Delta", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			id := strings.ReplaceAll(name, " ", "-")
			base := api.TransferBase{Image: cmp.Or(c.base.Image, image), SnapshotHandle: "s1"}
			*r.tracker = storage{snapshots: r.tracker.snapshots}
			before := r.counted(c.method, c.reason)
			r.all()
			c.fault(r.tracker)
			r.uploadOf(id, second, &base)
			s := d.finish(id).Status
			condition := meta.FindStatusCondition(s.Conditions, api.ConditionBestMethod)
			if s.Phase != api.TransferSucceeded || s.Method != c.method || condition == nil {
				t.Fatalf("status %+v, want method %s", s, c.method)
			}
			if fell := condition.Status == metav1.ConditionFalse; fell != (c.reason != "") || fell && condition.Reason != c.reason {
				t.Errorf("condition %+v, want reason %q", condition, c.reason)
			}
			if told := r.all(); strings.Contains(told, "SteppedDown") != (c.reason != "") {
				t.Errorf("events %s", told)
			}
			if r.counted(c.method, c.reason) != before+1 {
				t.Error("the upload was not counted with its reason")
			}
			r.wantImage(d, id, s.Image, second)
		})
	}
}

func TestStorageThatDoesNotAnswerGetsASecondChance(t *testing.T) {
	r := newRig(t)
	r.devices.silent = true
	b := blocky(1, 8<<20)
	d := r.daemon()
	r.tracker.allocated = failure(cbt.Unreachable, codes.Unavailable)
	r.uploadOf("s1", b, nil)
	d.see("s1")
	r.eventually("the attempt failed", func() bool { return d.ended("s1", api.TransferPending) })
	r.tracker.mu.Lock()
	r.tracker.allocated = nil
	r.tracker.mu.Unlock()
	r.eventually("the next one asks again", func() bool { d.see("s1"); return d.ended("s1", api.TransferSucceeded) })
	if s := r.get("s1").Status; s.Method != "Allocated" || s.Attempts != 2 {
		t.Fatalf("status %+v", s)
	}
	r.tracker.allocated = errors.New("no route to host")
	r.uploadOf("s2", b, nil)
	r.eventually("the second attempt reads all", func() bool { d.see("s2"); return d.ended("s2", api.TransferSucceeded) })
	s := r.get("s2").Status
	if c := meta.FindStatusCondition(s.Conditions, api.ConditionBestMethod); s.Method != "Scan" || s.Attempts != 2 || c.Reason != "Unreachable" || !strings.Contains(c.Message, "no route to host") {
		t.Fatalf("status %+v", s)
	}
}

// TestForeignBase holds that an image of another volume is never taken for
// what this one held.
func TestForeignBase(t *testing.T) {
	r := newRig(t)
	b := blocky(1, 8<<20)
	d := r.daemon()
	r.publish("pv-other", b)
	r.transfer("other", api.VolumeTransferSpec{Direction: api.Upload, Round: "1", Mount: api.VolumeMount{PersistentVolume: "pv-other"}})
	other := r.get("other")
	other.Spec.Volume.Name = "another"
	r.must(r.client.Update(t.Context(), other))
	image := d.finish("other").Status.Image
	r.snapshot("s0", b)
	r.uploadOf("s1", blocky(2, 8<<20), &api.TransferBase{Image: image, SnapshotHandle: "s0"})
	s := d.finish("s1").Status
	if c := meta.FindStatusCondition(s.Conditions, api.ConditionBestMethod); s.Method != "Allocated" || c.Reason != reasonForeign {
		t.Fatalf("status %+v", s)
	}
	r.wantImage(d, "s1", s.Image, blocky(2, 8<<20))
}

// TestBaseOfAnotherCluster lets an application's first round back start from what the
// volume was activated with, which is the other cluster's image of the same claim.
func TestBaseOfAnotherCluster(t *testing.T) {
	r := newRig(t)
	first := blocky(1, 8<<20)
	second := slices.Clone(first)
	copy(second[5<<20:], "written since the activation")
	d := r.daemon()
	r.publish("pv-theirs", first)
	r.transfer("theirs", api.VolumeTransferSpec{Direction: api.Upload, Round: "1", Mount: api.VolumeMount{PersistentVolume: "pv-theirs"}})
	theirs := r.get("theirs")
	theirs.Spec.Volume.Cluster = "there"
	r.must(r.client.Update(t.Context(), theirs))
	image := d.finish("theirs").Status.Image
	r.snapshot("s0", first)
	r.uploadOf("s1", second, &api.TransferBase{Image: image, SnapshotHandle: "s0", Cluster: "there"})
	s := d.finish("s1").Status
	if s.Method != "Delta" || s.Progress.BytesRead > 3<<20 {
		t.Fatalf("status %+v", s)
	}
	image1 := s.Image
	r.wantImage(d, "s1", image1, second)
	r.uploadOf("s2", second, &api.TransferBase{Image: image, SnapshotHandle: "s0", Cluster: "elsewhere"})
	s = d.finish("s2").Status
	if c := meta.FindStatusCondition(s.Conditions, api.ConditionBestMethod); s.Method != "Allocated" || c.Reason != reasonForeign {
		t.Fatalf("status %+v", s)
	}
	r.wantImage(d, "s2", s.Image, second)
}

func TestGrownVolume(t *testing.T) {
	r := newRig(t)
	r.devices.silent = true
	first := blocky(1, 8<<20)
	second := append(slices.Clone(first), blocky(3, 6<<20+512)...)
	d := r.daemon()
	r.uploadOf("s1", first, nil)
	r.uploadOf("s2", second, &api.TransferBase{Image: d.finish("s1").Status.Image, SnapshotHandle: "s1"})
	s := d.finish("s2").Status
	if s.Method != "Delta" {
		t.Fatalf("status %+v", s)
	}
	r.wantImage(d, "s2", s.Image, second)
}

func TestPlacesAreAmongWhatIsUntold(t *testing.T) {
	told := []snapshot.Extent{{Offset: 10, Length: 10}, {Offset: 100, Length: 1}, {Offset: 5000, Length: 100}}
	gaps := untold(told, 10_000)
	for seed := range uint64(50) {
		found := places(gaps, 64, seed)
		if len(found) < witnesses || found[0] != 0 || found[len(found)-1] < 10_000-64-1 {
			t.Fatalf("seed %d: %v", seed, found)
		}
		for _, at := range found {
			if !isUntold(told, at) || at >= 10_000 || at < 0 {
				t.Fatalf("seed %d: %d is told", seed, at)
			}
		}
		if !slices.IsSorted(found) {
			t.Fatalf("seed %d: %v", seed, found)
		}
	}
	if found := places(untold([]snapshot.Extent{{Offset: 0, Length: 100}}, 100), 64, 7); found != nil {
		t.Fatalf("%v", found)
	}
	if text := fmt.Sprint(places([]snapshot.Extent{{Offset: 5, Length: 1}}, 64, 0)); text != "[5 5 5]" {
		t.Fatal(text)
	}
}
