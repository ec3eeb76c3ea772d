package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
)

const size = 5<<20 + 512

func TestVolumeGoesUpAndComesBack(t *testing.T) {
	r := newRig(t)
	first, second := content(1, size), content(1, size)
	for _, b := range [][]byte{first, second} {
		copy(b[0x438:], []byte{0x53, 0xEF})
		copy(b[0x45C:], []byte{0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0})
	}
	copy(second[3<<20:], "another round")
	r.publish("pv-src", first)
	d := r.daemon()

	r.upload("up1", "pv-src", "1")
	up1 := d.finish("up1")
	if s := up1.Status; s.Phase != api.TransferSucceeded || s.Image == "" || s.Size != size || s.Method != "Allocated" ||
		s.Filesystem != "ext4" || s.Attempts != 1 || s.FinishTime == nil || s.Progress.BytesDone != size || s.Message != "" {
		t.Fatalf("status %+v", s)
	}
	r.publish("pv-src", second)
	r.upload("up2", "pv-src", "2")
	up2 := d.finish("up2")
	if p := up2.Status.Progress; p.BytesChanged == 0 || p.BytesChanged >= size/2 {
		t.Fatalf("%d bytes changed: the newest image was not compared with", p.BytesChanged)
	}

	dst := r.publish("pv-dst", content(9, size))
	r.apply("down1", "pv-dst", up1.Status.Image, "")
	if s := d.finish("down1").Status; s.Phase != api.TransferSucceeded || s.Image != up1.Status.Image {
		t.Fatalf("status %+v", s)
	}
	r.wantFile(dst, first)
	r.apply("down2", "pv-dst", up2.Status.Image, up1.Status.Image)
	if s := d.finish("down2").Status; s.Phase != api.TransferSucceeded || s.Progress.BytesWritten >= size/2 {
		t.Fatalf("status %+v: all was written, and not what differs", s)
	}
	r.wantFile(dst, second)

	r.apply("down3", "pv-dst", up1.Status.Image, "gone")
	if s := d.finish("down3").Status; s.Phase != api.TransferSucceeded {
		t.Fatalf("status %+v", s)
	}
	r.wantFile(dst, first)
	if !r.told("BaseGone") {
		t.Fatal("a copy became a full one and no event says so")
	}
	r.eventually("finished transfers are let go", func() bool {
		d.see("down3")
		return len(r.get("down3").Finalizers) == 0
	})
}

func (r *rig) told(reason string) bool {
	for {
		select {
		case e := <-r.events.Events:
			if strings.Contains(e, reason) {
				return true
			}
		default:
			return false
		}
	}
}

func TestDaemonThatIsKilledGoesOn(t *testing.T) {
	r := newRig(t)
	want := content(2, size)
	r.publish("pv-src", want)
	dst := r.publish("pv-dst", make([]byte, size))
	image := ""
	for _, name := range []string{"up", "down"} {
		if name == "up" {
			r.upload(name, "pv-src", "1")
		} else {
			r.apply(name, "pv-dst", image, "")
		}
		release := r.devices.hold()
		killed := r.daemon()
		killed.see(name)
		<-r.devices.entered
		killed.kill()
		release()
		killed.wait()
		if s := r.get(name).Status; s.Phase != api.TransferRunning {
			t.Fatalf("status %+v, want it as the killed daemon left it", s)
		}
		s := r.daemon().finish(name).Status
		if s.Phase != api.TransferSucceeded || s.Attempts != 2 {
			t.Fatalf("status %+v", s)
		}
		image = s.Image
	}
	r.wantFile(dst, want)
	if left, err := os.ReadDir(filepath.Join(r.cache, "journals")); err != nil || len(left) != 0 {
		t.Fatalf("journals %v, %v: the apply that ended needs none", left, err)
	}
	if n := len(r.images()); n != 1 {
		t.Fatalf("%d images, want one", n)
	}
}

func (r *rig) images() []snapshot.Image {
	r.t.Helper()
	d := r.daemon()
	runner := &runner{live: r.client, cfg: d.cfg}
	location, err := runner.location(r.t.Context(), secret)
	r.must(err)
	repository, err := r.opener.Open(r.t.Context(), location, false)
	r.must(err)
	images, err := repository.Images(r.t.Context(), snapshot.Volume{Cluster: "c1", Namespace: "cms", Name: "data"})
	r.must(errors.Join(err, repository.Close(r.t.Context())))
	return images
}

func TestCommittedImageIsNotMadeAgain(t *testing.T) {
	r := newRig(t)
	r.publish("pv-src", content(3, size))
	d := r.daemon()
	r.upload("up", "pv-src", "1")
	image := d.finish("up").Status.Image
	r.upload("again", "pv-src", "1")
	if s := d.finish("again").Status; s.Image != image || s.Size != size {
		t.Fatalf("status %+v, want image %s again", s, image)
	}
}

func TestDeletedTransferIsStoppedBeforeItIsLetGo(t *testing.T) {
	r := newRig(t)
	r.publish("pv-src", content(4, size))
	r.upload("up", "pv-src", "1")
	d := r.daemon()
	release := r.devices.hold()
	d.see("up")
	<-r.devices.entered
	r.must(r.client.Delete(t.Context(), r.get("up")))
	d.see("up")
	d.see("up")
	if got := r.get("up"); len(got.Finalizers) != 1 {
		t.Fatal("the transfer was let go while its volume was being read")
	}
	release()
	r.eventually("the transfer is gone", func() bool {
		err := r.client.Get(t.Context(), types.NamespacedName{Namespace: home, Name: "up"}, &api.VolumeTransfer{})
		return apierrors.IsNotFound(err)
	})
	if n := len(r.images()); n != 0 {
		t.Fatalf("%d images, want none", n)
	}
}

func TestPlacesAreFew(t *testing.T) {
	r := newRig(t)
	r.places = 1
	r.publish("pv-src", content(5, size))
	for _, name := range []string{"a", "b", "c"} {
		r.upload(name, "pv-src", name)
	}
	d := r.daemon()
	release := r.devices.hold()
	d.see("a")
	<-r.devices.entered
	d.see("b")
	d.see("c")
	if s := r.get("b").Status; s.Phase != api.TransferPending || s.Message != "waits for one of 1 places on node n1" || s.Attempts != 0 {
		t.Fatalf("status %+v", s)
	}
	release()
	for _, name := range []string{"a", "b", "c"} {
		r.eventually(name+" succeeds without being seen again", func() bool { return d.ended(name, api.TransferSucceeded) })
	}
}

func TestUnpublishedVolumeIsRefused(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		name, mode string
		plain      bool
		put        func(pv string)
		want       string
	}{
		{name: "no-device", plain: true, mode: modeBlock, want: "does not exist; does its holder pod still run?"},
		{name: "a-file", mode: modeBlock, put: func(pv string) { r.publish(pv, content(6, size)) }, want: "is no block device"},
		{name: "no-folder", mode: modeFilesystem, want: "does not exist; does its holder pod still run?"},
		{name: "bare-folder", mode: modeFilesystem, put: func(pv string) { r.folder(pv) }, want: "nothing is mounted on"},
		{name: "empty-file", plain: true, mode: modeBlock, put: func(pv string) { r.publish(pv, nil) }, want: "the source holds no bytes"},
	} {
		r.plain = c.plain
		if c.put != nil {
			c.put("pv-" + c.name)
		}
		r.transfer(c.name, api.VolumeTransferSpec{Direction: api.Upload, Round: "1", Mount: api.VolumeMount{PersistentVolume: "pv-" + c.name, Mode: c.mode}})
		d := r.daemon()
		d.see(c.name)
		r.eventually("the attempt failed", func() bool { return d.ended(c.name, api.TransferPending) })
		s := r.get(c.name).Status
		if s.Attempts < 1 || !strings.HasPrefix(s.Message, fmt.Sprintf("attempt %d failed and is repeated at ", s.Attempts)) || !strings.Contains(s.Message, c.want) {
			t.Errorf("%s: status %+v, want %q", c.name, s, c.want)
		}
	}
}

func TestNextAttemptWaits(t *testing.T) {
	r := newRig(t)
	r.upload("up", "pv", "1")
	failed := r.get("up")
	at := metav1.Now()
	failed.Status = api.VolumeTransferStatus{Phase: api.TransferPending, Attempts: 6, Heartbeat: &at}
	r.must(r.client.Status().Update(t.Context(), failed))
	if wait := r.daemon().see("up").RequeueAfter; wait <= 20*time.Second || wait > 32*time.Second {
		t.Fatalf("the next attempt is in %s, want 32 s after the last", wait)
	}
}

func (r *rig) folder(pv string) string {
	r.t.Helper()
	path := filepath.Join(r.kubelet, "pods", podUID, "volumes/kubernetes.io~csi", pv, "mount")
	r.must(os.MkdirAll(path, 0o755))
	return path
}

func TestTreeGoesUpAndComesBack(t *testing.T) {
	r := newRig(t)
	src, dst := r.folder("pv-src"), r.folder("pv-dst")
	r.must(os.MkdirAll(filepath.Join(src, "a folder"), 0o750))
	r.must(os.WriteFile(filepath.Join(src, "a folder", "ünicode"), content(11, 1<<20), 0o640))
	r.must(os.Symlink("nowhere", filepath.Join(src, "link")))
	r.must(os.WriteFile(filepath.Join(dst, "stale"), []byte("old"), 0o600))
	d := r.daemon()
	mount := func(pv string) api.VolumeMount { return api.VolumeMount{PersistentVolume: pv, Mode: modeFilesystem} }
	r.transfer("up", api.VolumeTransferSpec{Direction: api.Upload, Round: "1", Mount: mount("pv-src")})
	up := d.finish("up").Status
	if up.Phase != api.TransferSucceeded || up.Method != "Files" || up.Size != 1<<20 || up.Progress.Files == 0 {
		t.Fatalf("status %+v", up)
	}
	r.transfer("down", api.VolumeTransferSpec{Direction: api.Apply, Image: up.Image, Mount: mount("pv-dst")})
	if s := d.finish("down").Status; s.Phase != api.TransferSucceeded {
		t.Fatalf("status %+v", s)
	}
	r.wantFile(filepath.Join(dst, "a folder", "ünicode"), content(11, 1<<20))
	if to, err := os.Readlink(filepath.Join(dst, "link")); err != nil || to != "nowhere" {
		t.Fatalf("%q, %v", to, err)
	}
	if _, err := os.Stat(filepath.Join(dst, "stale")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("what the image does not have was left: %v", err)
	}
}

func TestNothingIsWrittenIntoABareFolder(t *testing.T) {
	r := newRig(t)
	r.plain = false
	path := r.folder("pv")
	p := published{kubeletDir: r.kubelet}
	if _, _, err := p.directory(api.VolumeMount{PersistentVolume: "pv", PodUID: podUID}); !errors.Is(err, errUnpublished) {
		t.Fatalf("error %v, want errUnpublished", err)
	}
	if left, err := os.ReadDir(path); err != nil || len(left) != 0 {
		t.Fatalf("%v, %v", left, err)
	}
}

func TestNamesCannotLeaveKubeletsFolder(t *testing.T) {
	for _, m := range []api.VolumeMount{
		{PersistentVolume: "..", PodUID: podUID}, {PersistentVolume: "pv", PodUID: "../../../etc/shadow"}, {PersistentVolume: "", PodUID: podUID},
	} {
		if _, err := (published{plainFiles: true}).device(m); !isLasting(err, 1) {
			t.Errorf("%+v: error %v, want a lasting one", m, err)
		}
	}
}

func TestLastingFailures(t *testing.T) {
	r := newRig(t)
	r.publish("pv-src", content(7, size))
	r.publish("pv-small", make([]byte, size-512))
	d := r.daemon()
	r.upload("up", "pv-src", "1")
	image := d.finish("up").Status.Image
	for name, c := range map[string]struct {
		spec api.VolumeTransferSpec
		want string
	}{
		"small": {api.VolumeTransferSpec{Direction: api.Apply, Image: image, Mount: api.VolumeMount{PersistentVolume: "pv-small"}},
			"make its claim larger"},
		"mode": {api.VolumeTransferSpec{Direction: api.Apply, Image: image, Mount: api.VolumeMount{PersistentVolume: "pv-small", Mode: modeFilesystem}},
			"is a Block image and cannot be applied to a volume in mode Filesystem"},
		"image": {api.VolumeTransferSpec{Direction: api.Apply, Image: "none", Mount: api.VolumeMount{PersistentVolume: "pv-small"}},
			"not in the repository"},
		"names": {api.VolumeTransferSpec{Direction: api.Upload, Round: "9", Mount: api.VolumeMount{PersistentVolume: "../pv"}},
			"make another transfer"},
	} {
		r.transfer(name, c.spec)
		if s := d.finish(name).Status; s.Phase != api.TransferFailed || s.FinishTime == nil || s.Attempts != 1 || !strings.Contains(s.Message, c.want) {
			t.Errorf("%s: status %+v, want %q", name, s, c.want)
		}
	}
}

func TestAttemptsAreCountedAndEnd(t *testing.T) {
	r := newRig(t)
	r.upload("up", "pv", "1")
	stale := r.get("up")
	begun := metav1.NewTime(time.Now().Add(-DefaultPatience - time.Minute))
	stale.Status.Attempts, stale.Status.StartTime = maxAttempts-1, &begun
	r.must(r.client.Status().Update(t.Context(), stale))
	s := r.daemon().finish("up").Status
	if s.Phase != api.TransferFailed || !strings.HasPrefix(s.Message, "given up after 10 attempts, since it gets no further: ") {
		t.Fatalf("status %+v", s)
	}
	if s.LastFailure == "" || s.LastFailed == nil {
		t.Errorf("status %+v: it does not say why the last attempt failed", s)
	}
	now := time.Now()
	again := api.VolumeTransferStatus{Phase: api.TransferRunning, Attempts: 1}
	if !markStarted(&again, now, DefaultPatience) || again.LastFailure != "attempt 1 ended with its daemon" {
		t.Errorf("status %+v: a daemon that ended is no reason", again)
	}
	crashed := api.VolumeTransferStatus{Phase: api.TransferRunning, Attempts: maxAttempts}
	if markStarted(&crashed, now, DefaultPatience) || crashed.Phase != api.TransferFailed {
		t.Fatalf("status %+v: a transfer that ends its daemon is started for ever", crashed)
	}
}

func TestEndedTransferIsNotStartedFromAStaleCache(t *testing.T) {
	r := newRig(t)
	r.publish("pv-src", content(8, size))
	r.upload("up", "pv-src", "1")
	d := r.daemon()
	stale := r.get("up")
	d.finish("up")
	r.eventually("the run has ended", func() bool { return d.ended("up", api.TransferSucceeded) })
	r.must(d.start(t.Context(), stale))
	if s := r.get("up").Status; s.Phase != api.TransferSucceeded || s.Attempts != 1 || d.work.running(stale.UID) {
		t.Fatalf("status %+v", s)
	}
}

func TestTransfersOfOtherNodesAreLeftAlone(t *testing.T) {
	r := newRig(t)
	r.upload("up", "pv", "1")
	other := r.get("up")
	other.Spec.Node = "n2"
	r.must(r.client.Update(t.Context(), other))
	if result := r.daemon().see("up"); result != (ctrl.Result{}) {
		t.Fatalf("%+v", result)
	}
	if got := r.get("up"); got.Status.Phase != "" || len(got.Finalizers) != 0 {
		t.Fatalf("%+v", got)
	}
}

func TestPauseGrows(t *testing.T) {
	at := metav1.NewTime(time.Unix(1000, 0))
	for attempts, want := range map[int32]time.Duration{1: time.Second, 3: 4 * time.Second, 7: time.Minute, 10: time.Minute} {
		if got := pause(api.VolumeTransferStatus{Attempts: attempts, Heartbeat: &at}).Sub(at.Time); got != want {
			t.Errorf("after %d attempts %s, want %s", attempts, got, want)
		}
	}
}

func TestRateIsAnAverageOfTheLastSeconds(t *testing.T) {
	var m meter
	at := time.Unix(0, 0)
	var p api.TransferProgress
	for i := range 31 {
		// A burst at first, then 10 bytes a second.
		done := int64(10 * i)
		if i > 5 {
			done += 100_000
		}
		p = m.progress(at.Add(time.Duration(i)*time.Second), snapshot.Stats{Total: 200_000, Done: done})
	}
	if p.BytesPerSecond != 10 || p.SecondsLeft != (200_000-100_300)/10 {
		t.Fatalf("%+v", p)
	}
}

func TestRateIsHeldAtTheEnd(t *testing.T) {
	var m meter
	at := time.Unix(0, 0)
	var p api.TransferProgress
	for i := range 60 {
		p = m.progress(at.Add(time.Duration(i)*time.Second), snapshot.Stats{Total: 200, Done: min(200, int64(10*i))})
	}
	if p.BytesPerSecond != 10 || p.SecondsLeft != 0 || p.BytesDone != 200 {
		t.Fatalf("%+v: all was through after 20 s, at 10 bytes a second", p)
	}
	// A slower method begins anew.
	for i := range 3 {
		p = m.progress(at.Add(time.Duration(60+i)*time.Second), snapshot.Stats{Total: 1000, Done: int64(5 * i)})
	}
	if p.BytesPerSecond != 5 || p.SecondsLeft != 198 {
		t.Fatalf("%+v", p)
	}
}

func TestLoopDevicesAndMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: loop devices and mounts")
	}
	r := newRig(t)
	r.plain = false
	src, dst := r.loop("pv-src", content(10, 8<<20)), r.loop("pv-dst", make([]byte, 8<<20))
	d := r.daemon()
	r.upload("up", "pv-src", "1")
	s := d.finish("up").Status
	if s.Phase != api.TransferSucceeded || s.Method != "Scan" || s.Size != 8<<20 {
		t.Fatalf("status %+v", s)
	}
	r.apply("down", "pv-dst", s.Image, "")
	if s := d.finish("down").Status; s.Phase != api.TransferSucceeded {
		t.Fatalf("status %+v", s)
	}
	want, err := os.ReadFile(src)
	r.must(err)
	r.wantFile(dst, want)

	path := r.folder("pv-tree")
	r.must(unix.Mount("godwit-test", path, "tmpfs", 0, "size=1m"))
	p := published{kubeletDir: r.kubelet}
	got, root, err := p.directory(api.VolumeMount{PersistentVolume: "pv-tree", PodUID: podUID})
	if err != nil || got != path {
		t.Fatalf("%q, %v", got, err)
	}
	if err := unix.Unmount(path, 0); !errors.Is(err, unix.EBUSY) {
		t.Fatalf("unmount: %v, want EBUSY as long as the volume is worked on", err)
	}
	r.must(root.Close())
	r.must(unix.Unmount(path, 0))
}

// loop publishes a loop device over a file with that content, and returns the device.
func (r *rig) loop(pv string, content []byte) string {
	r.t.Helper()
	backing := filepath.Join(r.t.TempDir(), pv)
	r.must(os.WriteFile(backing, content, 0o600))
	out, err := exec.CommandContext(r.t.Context(), "losetup", "--find", "--show", backing).Output()
	r.must(err)
	device := strings.TrimSpace(string(out))
	r.t.Cleanup(func() {
		if err := exec.CommandContext(context.Background(), "losetup", "--detach", device).Run(); err != nil {
			r.t.Errorf("detach %s: %v", device, err)
		}
	})
	var st unix.Stat_t
	r.must(unix.Stat(device, &st))
	path := r.publish(pv, nil)
	r.must(os.Remove(path))
	r.must(unix.Mknod(path, unix.S_IFBLK|0o600, int(st.Rdev)))
	return device
}
