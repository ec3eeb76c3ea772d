package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/godwit-io/godwit/test/csidriver/internal/disk"
)

// runAsDriver makes this test program the driver, so that tests can kill it.
const runAsDriver = "CSIDRIVER_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(runAsDriver) != "" {
		if err := run(context.Background(), os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Geteuid() == 0 && os.Getenv(ownMounts) == "" {
		os.Exit(inOwnNamespace())
	}
	os.Exit(m.Run())
}

// ownMounts tells that this process has a mount namespace of its own. Without
// one, a namespace that somebody else makes meanwhile would take a copy of the
// mounts of these tests and hold their devices.
const ownMounts = "CSIDRIVER_TEST_OWN_MOUNTS"

func inOwnNamespace() int {
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), ownMounts+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the parent of Pdeathsig is the thread
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "a mount namespace for the tests:", err)
		return 1
	}
	return 0
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loop devices and mounts")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("needs root on a machine with loop devices: ", err)
	}
}

// stateDir is a folder on an xfs with reflink that goes with the test. It fails
// the test for each loop that is left behind in it.
func stateDir(t *testing.T) string {
	t.Helper()
	needRoot(t)
	tmp := t.TempDir()
	image, dir := filepath.Join(tmp, "state.img"), filepath.Join(tmp, "state")
	must(t, disk.CreateImage(image, 4<<30))
	l, err := disk.AttachLoop(t.Context(), image, false)
	must(t, err)
	t.Cleanup(func() {
		if err := disk.DetachLoops(context.Background(), image); err != nil {
			t.Error("left behind:", err)
		}
	})
	must(t, disk.Format(t.Context(), l.Path(), disk.XFS))
	must(t, os.Mkdir(dir, 0o700))
	must(t, disk.MountDevice(t.Context(), l.Path(), dir, disk.XFS, nil))
	t.Cleanup(func() {
		leftLoops(t, dir)
		if err := disk.Unmount(dir); err != nil {
			t.Error("left behind:", err)
		}
	})
	return dir
}

// leftLoops fails the test for loops on images of a state folder, and detaches
// them so that they do not outlive the test.
func leftLoops(t *testing.T, dir string) {
	images, err := filepath.Glob(filepath.Join(dir, "*", "*", "data"))
	if err != nil {
		t.Error(err)
	}
	for _, image := range images {
		loops, err := disk.FindLoops(image)
		if err != nil || len(loops) > 0 {
			t.Errorf("left behind: loops %v on %s (%v)", loops, image, err)
		}
		if err := disk.DetachLoops(context.Background(), image); err != nil {
			t.Error(err)
		}
	}
}

// proc is a running driver and a connection to it.
type proc struct {
	t    *testing.T
	args []string
	sock string
	cmd  *exec.Cmd
	log  *logBuffer
	conn *grpc.ClientConn

	ctrl  csi.ControllerClient
	node  csi.NodeClient
	group csi.GroupControllerClient
	meta  csi.SnapshotMetadataClient
}

// logBuffer is written while it is read.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func startDriver(t *testing.T, dir string, args ...string) *proc {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "csi.sock")
	p := &proc{t: t, sock: sock, args: append([]string{"--endpoint", "unix://" + sock, "--state-dir", dir, "--node-id", "n1"}, args...)}
	p.start()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of the driver:\n%s", p.log)
		}
	})
	return p
}

func (p *proc) start() {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0], p.args...)
	p.cmd.Env = append(os.Environ(), runAsDriver+"=1")
	if p.log == nil {
		p.log = &logBuffer{}
	}
	p.cmd.Stderr = p.log
	must(p.t, p.cmd.Start())
	conn, err := grpc.NewClient("unix://"+p.sock, grpc.WithTransportCredentials(insecure.NewCredentials()), fastRetry())
	must(p.t, err)
	p.conn = conn
	p.ctrl, p.node = csi.NewControllerClient(conn), csi.NewNodeClient(conn)
	p.group, p.meta = csi.NewGroupControllerClient(conn), csi.NewSnapshotMetadataClient(conn)
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	_, err = csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{}, grpc.WaitForReady(true))
	must(p.t, err)
}

// fastRetry connects as soon as a driver that is just starting listens.
func fastRetry() grpc.DialOption {
	return grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond}})
}

// kill ends the driver as a power cut would.
func (p *proc) kill() {
	_ = p.conn.Close()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *proc) restart() {
	p.t.Helper()
	p.kill()
	must(p.t, os.Remove(p.sock))
	p.start()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const writer = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER

func blockCap(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}

func mountCap(fsType string, mode csi.VolumeCapability_AccessMode_Mode, flags ...string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fsType, MountFlags: flags}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}

func fromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
}

func fromVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
}

// create makes a volume that goes with the test.
func (p *proc) create(name string, size int64, vc *csi.VolumeCapability, src *csi.VolumeContentSource) string {
	p.t.Helper()
	resp, err := p.ctrl.CreateVolume(p.t.Context(), &csi.CreateVolumeRequest{
		Name: name, VolumeCapabilities: []*csi.VolumeCapability{vc}, VolumeContentSource: src,
		CapacityRange: &csi.CapacityRange{RequiredBytes: size},
	})
	must(p.t, err)
	id := resp.GetVolume().GetVolumeId()
	p.t.Cleanup(func() {
		if _, err := p.ctrl.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
			p.t.Errorf("delete volume %s: %v", id, err)
		}
	})
	return id
}

func (p *proc) snapshot(name, volume string) string {
	p.t.Helper()
	resp, err := p.ctrl.CreateSnapshot(p.t.Context(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volume})
	must(p.t, err)
	return resp.GetSnapshot().GetSnapshotId()
}

// published is a volume that one pod sees.
type published struct {
	p               *proc
	id              string
	staging, target string
	vc              *csi.VolumeCapability
	readOnly        bool
}

func (p *proc) publish(id string, vc *csi.VolumeCapability, readOnly bool) *published {
	p.t.Helper()
	dir := p.t.TempDir()
	pub := &published{p: p, id: id, staging: filepath.Join(dir, "staging"), target: filepath.Join(dir, "a pod", "target"), vc: vc, readOnly: readOnly}
	must(p.t, os.MkdirAll(pub.staging, 0o700))
	p.t.Cleanup(func() { pub.unpublish(p.t) })
	must(p.t, pub.publish())
	return pub
}

func (pub *published) publish() error {
	ctx := pub.p.t.Context()
	_, err := pub.p.node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: pub.id, StagingTargetPath: pub.staging, VolumeCapability: pub.vc})
	if err != nil {
		return err
	}
	_, err = pub.p.node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: pub.id, StagingTargetPath: pub.staging, TargetPath: pub.target, VolumeCapability: pub.vc, Readonly: pub.readOnly,
	})
	return err
}

func (pub *published) unpublish(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	_, err := pub.p.node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: pub.id, TargetPath: pub.target})
	if err == nil {
		_, err = pub.p.node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: pub.id, StagingTargetPath: pub.staging})
	}
	if err != nil {
		t.Errorf("unpublish %s: %v", pub.id, err)
	}
	if _, err := os.Lstat(pub.target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there (%v)", pub.target, err)
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// writeSync writes and fsyncs, as an application that means it.
func writeSync(t *testing.T, path string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	must(t, err)
	_, err = f.WriteAt(b, off)
	must(t, errors.Join(err, f.Sync(), f.Close()))
}

func readAt(t *testing.T, path string, off int64, n int) []byte {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer func() { _ = f.Close() }()
	b := make([]byte, n)
	_, err = f.ReadAt(b, off)
	must(t, err)
	return b
}

// deviceSize is what the kernel says of a block device.
func deviceSize(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer func() { _ = f.Close() }()
	n, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_END)
	must(t, err)
	return n
}

func commandOutput(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
