package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/godwit-io/godwit/test/csidriver/internal/disk"
)

func fsSize(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Statfs_t
	must(t, unix.Statfs(path, &st))
	return int64(st.Blocks) * st.Bsize
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("%s: %v, want %s", what, err, want)
	}
}

// A killed driver loses nothing: pods go on meanwhile, and the next process
// finds every volume where it is.
func TestKilledWithVolumesPublished(t *testing.T) {
	p := startDriver(t, stateDir(t))
	fsCap := mountCap("xfs", writer)
	raw := p.publish(p.create("raw", 32*mib, blockCap(writer), nil), blockCap(writer), false)
	files := p.publish(p.create("files", 320*mib, fsCap, nil), fsCap, false)
	open, err := os.Create(filepath.Join(files.target, "open"))
	must(t, err)
	p.restart()
	data := randomBytes(mib)
	writeSync(t, raw.target, 0, data)
	_, err = open.Write(data)
	must(t, errors.Join(err, open.Close()))
	for _, pub := range []*published{raw, files} {
		before := loopsOf(t, pub)
		must(t, pub.publish())
		if after := loopsOf(t, pub); len(after) != 1 || after[0].Number != before[0].Number {
			t.Errorf("loops %v became %v", before, after)
		}
	}
	snap := p.snapshot("s", raw.id)
	p.restart()
	clone := p.publish(p.create("clone", 32*mib, blockCap(writer), fromSnapshot(snap)), blockCap(writer), false)
	if !bytes.Equal(readAt(t, clone.target, 0, mib), data) {
		t.Error("the bytes changed over a restart")
	}
}

func loopsOf(t *testing.T, pub *published) []disk.Loop {
	t.Helper()
	loops, err := disk.FindLoops(pub.image())
	must(t, err)
	return loops
}

func (pub *published) image() string {
	for i, a := range pub.p.args {
		if a == "--state-dir" {
			return filepath.Join(pub.p.args[i+1], "volumes", pub.id, "data")
		}
	}
	return ""
}

// After a restart of the node its loops and mounts are gone, and what it held
// can be deleted or published anew.
func TestNodeRestarted(t *testing.T) {
	dir := stateDir(t)
	p := startDriver(t, dir)
	fsCap := mountCap("ext4", writer)
	raw := p.publish(p.create("raw", 32*mib, blockCap(writer), nil), blockCap(writer), false)
	files := p.publish(p.create("files", 64*mib, fsCap, nil), fsCap, false)
	data := randomBytes(mib)
	writeSync(t, raw.target, 0, data)
	writeSync(t, filepath.Join(files.target, "f"), 0, data)
	p.kill()
	for _, pub := range []*published{raw, files} {
		must(t, errors.Join(disk.Unmount(pub.target), disk.Unmount(pub.staging)))
		must(t, disk.DetachLoops(t.Context(), pub.image()))
	}
	must(t, os.Remove(p.sock))
	p.start()
	if notes, err := filepath.Glob(filepath.Join(dir, "volumes", "*", "stages", "*")); err != nil || len(notes) > 0 {
		t.Errorf("the node still notes %v (%v)", notes, err)
	}
	must(t, errors.Join(raw.publish(), files.publish()))
	if !bytes.Equal(readAt(t, raw.target, 0, mib), data) || !bytes.Equal(readAt(t, filepath.Join(files.target, "f"), 0, mib), data) {
		t.Error("the bytes changed over a restart")
	}
}

// Snapshots are taken while the driver is killed at random. Each that is there
// in the end is whole, none is there twice, and pods write on.
func TestKilledAtRandom(t *testing.T) {
	dir := stateDir(t)
	p := startDriver(t, dir)
	vc := mountCap("ext4", writer)
	id := p.create("v", 64*mib, vc, nil)
	pub := p.publish(id, vc, false)
	for i := range 12 {
		name := fmt.Sprint("s", i)
		writeSync(t, filepath.Join(pub.target, "round"), 0, []byte(name))
		timer := time.AfterFunc(time.Duration(rand.IntN(60))*time.Millisecond, func() { _ = p.cmd.Process.Kill() })
		_, err := p.ctrl.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: id})
		timer.Stop()
		p.restart()
		snap := p.snapshot(name, id)
		t.Logf("%s: first answer %v", name, status.Code(err))
		clone := p.publish(p.create("c"+name, 64*mib, vc, fromSnapshot(snap)), vc, false)
		if got, err := os.ReadFile(filepath.Join(clone.target, "round")); err != nil || string(got) != name {
			t.Errorf("snapshot %s holds %q (%v)", name, got, err)
		}
		clone.unpublish(t)
	}
	list, err := p.ctrl.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{})
	must(t, err)
	if n := len(list.GetEntries()); n != 12 {
		t.Errorf("%d snapshots, want 12", n)
	}
	if dirs, err := os.ReadDir(filepath.Join(dir, "snapshots")); err != nil || len(dirs) != 12 {
		t.Errorf("%d folders of snapshots, want 12 (%v)", len(dirs), err)
	}
}

// A process that dies with a filesystem frozen is followed by one that thaws it.
func TestThawsWhatAKilledProcessFroze(t *testing.T) {
	p := startDriver(t, stateDir(t))
	vc := mountCap("ext4", writer)
	pub := p.publish(p.create("v", 64*mib, vc, nil), vc, false)
	frozen, err := disk.Freeze(loopsOf(t, pub)[0])
	must(t, err)
	wrote := make(chan error, 1)
	go func() { wrote <- os.WriteFile(filepath.Join(pub.target, "f"), []byte("x"), 0o600) }()
	select {
	case err := <-wrote:
		t.Fatalf("the filesystem is not frozen (%v)", err)
	case <-time.After(200 * time.Millisecond):
	}
	p.restart()
	select {
	case err := <-wrote:
		must(t, err)
	case <-time.After(10 * time.Second):
		t.Error("the filesystem is still frozen")
	}
	// It is thawed, which is what this complains of; it closes the mount.
	if err := frozen.Thaw(); !errors.Is(err, unix.EINVAL) {
		t.Error(err)
	}
}

// What a killed call left half-made is swept at the next start, and a format
// that was killed is done again.
func TestSweepsHalfMade(t *testing.T) {
	dir := stateDir(t)
	p := startDriver(t, dir)
	debris := filepath.Join(dir, "volumes", "vol-0123456789abcdef-0123456789abcdef")
	must(t, os.Mkdir(debris, 0o700))
	must(t, disk.CreateImage(filepath.Join(debris, "data"), mib))
	vc := mountCap("ext4", writer)
	id := p.create("v", 64*mib, vc, nil)
	half := filepath.Join(dir, "volumes", id)
	writeSync(t, filepath.Join(half, "data"), 8192, randomBytes(8192))
	must(t, os.WriteFile(filepath.Join(half, "formatting"), nil, 0o600))
	p.restart()
	if _, err := os.Stat(debris); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("debris is still there (%v)", err)
	}
	p.publish(id, vc, false)
}

func TestNeverFormatsData(t *testing.T) {
	p := startDriver(t, stateDir(t))
	id := p.create("v", 64*mib, blockCap(writer), nil)
	dev := p.publish(id, blockCap(writer), false)
	data := randomBytes(4096)
	writeSync(t, dev.target, 40*mib, data)
	dev.unpublish(t)
	for _, fsType := range []string{"ext4", "xfs"} {
		_, err := p.node.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{
			VolumeId: id, StagingTargetPath: dev.staging, VolumeCapability: mountCap(fsType, writer)})
		wantCode(t, "stage data as "+fsType, err, codes.FailedPrecondition)
	}
	dev = p.publish(id, blockCap(writer), false)
	if !bytes.Equal(readAt(t, dev.target, 40*mib, 4096), data) {
		t.Error("the data is gone")
	}
}

func TestExpandFilesystem(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs"} {
		t.Run(fsType, func(t *testing.T) {
			p := startDriver(t, stateDir(t))
			vc := mountCap(fsType, writer)
			pub := p.publish(p.create("v", 320*mib, vc, nil), vc, false)
			must(t, os.WriteFile(filepath.Join(pub.target, "f"), []byte("x"), 0o600))
			r := &csi.CapacityRange{RequiredBytes: 640 * mib}
			_, err := p.ctrl.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: pub.id, CapacityRange: r})
			must(t, err)
			_, err = p.node.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: pub.id, VolumePath: pub.target, CapacityRange: r})
			if status.Code(err) == codes.FailedPrecondition && fsType == "ext4" && strings.Contains(err.Error(), "CAP_SYS_RESOURCE") {
				t.Log("no CAP_SYS_RESOURCE here: ext4 grows when it is next staged")
				pub.unpublish(t)
				err = pub.publish()
			}
			must(t, err)
			if n := fsSize(t, pub.target); n < 560*mib {
				t.Errorf("the filesystem has %d bytes", n)
			}
			_, err = p.node.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: pub.id, VolumePath: pub.target, CapacityRange: r})
			must(t, err)
			if _, err := os.Stat(filepath.Join(pub.target, "f")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReadOnlyIsHeld(t *testing.T) {
	p := startDriver(t, stateDir(t))
	vc := mountCap("ext4", writer, "noatime")
	files := p.publish(p.create("files", 64*mib, vc, nil), vc, true)
	if err := os.WriteFile(filepath.Join(files.target, "f"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("write to a read-only filesystem: %v", err)
	}
	if b, err := os.ReadFile("/proc/self/mounts"); err != nil || !strings.Contains(string(b), files.staging+" ext4 rw,noatime") {
		t.Errorf("mount options are not as asked for (%v)", err)
	}
	id := p.create("raw", 8*mib, blockCap(writer), nil)
	ro := p.publish(id, blockCap(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY), false)
	f, err := os.OpenFile(ro.target, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.Write(make([]byte, 4096))
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err == nil {
		t.Error("a read-only device took a write")
	}
	var fsStat *csi.NodeGetVolumeStatsResponse
	fsStat, err = p.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: files.id, VolumePath: files.target})
	must(t, err)
	if fsStat.GetUsage()[0].GetTotal() > 64*mib {
		t.Error("the filesystem is larger than its volume")
	}
}

// Two nodes share the machine and the state folder. A volume goes from one to
// the other, never to both; one that is only read is on both.
func TestTwoNodes(t *testing.T) {
	dir := stateDir(t)
	n1 := startDriver(t, dir)
	n2 := startDriver(t, dir, "--node-id", "n2", "--mode", "node")
	id := n1.create("v", 8*mib, blockCap(writer), nil)
	attach := func(node string, mode csi.VolumeCapability_AccessMode_Mode) error {
		_, err := n1.ctrl.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: id, NodeId: node, VolumeCapability: blockCap(mode)})
		return err
	}
	detach := func(node string) {
		_, err := n1.ctrl.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: node})
		must(t, err)
	}
	must(t, attach("n1", writer))
	must(t, attach("n1", writer))
	wantCode(t, "attach to a second node", attach("n2", writer), codes.FailedPrecondition)
	_, err := n1.ctrl.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
	wantCode(t, "delete an attached volume", err, codes.FailedPrecondition)
	detach("n1")
	must(t, attach("n2", writer))
	detach("n2")
	reader := csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	must(t, attach("n1", reader))
	must(t, attach("n2", reader))
	a, b := n1.publish(id, blockCap(reader), false), n2.publish(id, blockCap(reader), false)
	a.unpublish(t)
	readAt(t, b.target, 0, 4096)
	if len(loopsOf(t, a)) != 1 {
		t.Error("the loop went while the other node holds it")
	}
	b.unpublish(t)
	detach("n1")
	detach("n2")
}

func TestSharedVolume(t *testing.T) {
	dir := stateDir(t)
	p := startDriver(t, dir, "--flavor", "shared")
	vc := mountCap("", csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER)
	id := p.create("v", 8*mib, vc, nil)
	a, b := p.publish(id, vc, false), p.publish(id, vc, false)
	must(t, os.WriteFile(filepath.Join(a.target, "ä file"), []byte("x"), 0o600))
	if got, err := os.ReadFile(filepath.Join(b.target, "ä file")); err != nil || string(got) != "x" {
		t.Errorf("the other pod reads %q (%v)", got, err)
	}
	_, err := p.ctrl.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "b", VolumeCapabilities: []*csi.VolumeCapability{blockCap(writer)}})
	wantCode(t, "a block volume", err, codes.InvalidArgument)
	_, err = p.ctrl.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: id})
	wantCode(t, "a snapshot", err, codes.Unimplemented)
}

func TestFaultsFile(t *testing.T) {
	dir := stateDir(t)
	p := startDriver(t, dir, "--fault", "GetCapacity fail=2")
	capacity := func() error {
		_, err := p.ctrl.GetCapacity(t.Context(), &csi.GetCapacityRequest{})
		return err
	}
	must(t, capacity())
	wantCode(t, "second call", capacity(), codes.Unavailable)
	must(t, capacity())
	must(t, os.WriteFile(filepath.Join(dir, "faults"), []byte("CreateVolume fail=1 after code=DEADLINE_EXCEEDED\nGetCapacity delay=300ms\n"), 0o600))
	req := &csi.CreateVolumeRequest{Name: "v", VolumeCapabilities: []*csi.VolumeCapability{blockCap(writer)}}
	_, err := p.ctrl.CreateVolume(t.Context(), req)
	wantCode(t, "done, then reported failed", err, codes.DeadlineExceeded)
	list, err := p.ctrl.ListVolumes(t.Context(), &csi.ListVolumesRequest{})
	must(t, err)
	resp, err := p.ctrl.CreateVolume(t.Context(), req)
	must(t, err)
	if len(list.GetEntries()) != 1 || list.GetEntries()[0].GetVolume().GetVolumeId() != resp.GetVolume().GetVolumeId() {
		t.Errorf("%v, then %v", list, resp)
	}
	start := time.Now()
	must(t, capacity())
	if time.Since(start) < 300*time.Millisecond {
		t.Error("the call was not slow")
	}
	must(t, os.WriteFile(filepath.Join(dir, "faults"), []byte("GetCapacity explode\n"), 0o600))
	if err := capacity(); err == nil || !strings.Contains(err.Error(), "explode") {
		t.Errorf("a fault that is not known: %v", err)
	}
}

func TestRegistration(t *testing.T) {
	needRoot(t)
	kubelet := t.TempDir()
	p := startDriver(t, t.TempDir(), "--registration", "--kubelet-dir", kubelet)
	p.restart() // over the socket that the killed process left
	conn, err := grpc.NewClient("unix://"+filepath.Join(kubelet, "plugins_registry", "csi.test.godwit.io-reg.sock"),
		grpc.WithTransportCredentials(insecure.NewCredentials()), fastRetry())
	must(t, err)
	defer func() { _ = conn.Close() }()
	info, err := registration.NewRegistrationClient(conn).GetInfo(t.Context(), &registration.InfoRequest{}, grpc.WaitForReady(true))
	must(t, err)
	if info.GetType() != registration.CSIPlugin || info.GetName() != "csi.test.godwit.io" || info.GetEndpoint() != p.sock {
		t.Errorf("%v", info)
	}
}
