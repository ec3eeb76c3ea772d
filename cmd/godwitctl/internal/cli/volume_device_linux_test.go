package cli

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// TestVolumeTargetInUse holds the rule that nobody's only copy is overwritten.
func TestVolumeTargetInUse(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: loop devices and mounts")
	}
	p := inFolder(t, buildProgram(t))
	path, content := sparseFile(t)
	id := string(p.backup(t, "--create", path).Image.ID)

	disk := filepath.Join(t.TempDir(), "disk")
	write(t, disk, make([]byte, 32<<20))
	loop := strings.TrimSpace(tell(t, "losetup", "--find", "--show", disk))
	t.Cleanup(func() { tell(t, "losetup", "--detach", loop) })

	linked, bound := filepath.Join(t.TempDir(), "linked"), filepath.Join(t.TempDir(), "bound")
	if err := os.Link(disk, linked); err != nil {
		t.Fatal(err)
	}
	write(t, bound, nil)
	tell(t, "mount", "--bind", disk, bound)
	defer tell(t, "umount", bound)
	for _, name := range []string{disk, linked, bound} {
		p.refuse(t, name+" is in use by "+loop, "restore", "--force", "--image", id, name)
		p.refuse(t, name+" is in use by "+loop, "apply", "--force", "--to", id, name)
	}
	p.run(t, "restore", "--image", id, loop)
	read := func() []byte {
		b := make([]byte, len(content))
		f, err := os.Open(loop)
		if err == nil {
			_, err = io.ReadFull(f, b)
			_ = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if string(read()) != string(content) {
		t.Error("the device holds other bytes than the image")
	}
	p.run(t, "verify", "--image", id, loop)
	p.refuse(t, "holds data", "restore", "--image", id, loop)

	tell(t, "mkfs.ext4", "-q", "-F", loop)
	p.refuse(t, "holds a filesystem (ext4), which would be lost", "restore", "--image", id, loop)
	p.refuse(t, "holds a filesystem (ext4), and hardly anything of image", "apply", "--to", id, loop)
	dir := t.TempDir()
	tell(t, "mount", loop, dir)
	defer tell(t, "umount", dir)
	for _, command := range []string{"restore", "apply"} {
		flag := map[string]string{"restore": "--image", "apply": "--to"}[command]
		p.refuse(t, "is in use, mounted or held by another device", command, "--force", flag, id, loop)
	}
	if _, said, code := p.try("backup", "--volume", "shop/live", loop); code != 0 || !strings.Contains(said, "warning: "+loop+" is in use") {
		t.Errorf("backing up a mounted device: %d, %s", code, said)
	}
}

func tell(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// TestVolumeInterrupted ends a backup and a restore with Ctrl-C while the store
// is silent: they end at once, and nothing half-done is left.
func TestVolumeInterrupted(t *testing.T) {
	store := snapshottest.StartObjectStore(t)
	p := inStore(t, buildProgram(t), store, "interrupted")
	path, _ := sparseFile(t)
	id := string(p.backup(t, "--create", path).Image.ID)
	for name, c := range map[string]struct {
		after int
		args  func(dir string) []string
	}{
		"restore": {3 << 20, func(dir string) []string { return []string{"restore", "--image", id, filepath.Join(dir, "restored")} }},
		"backup":  {2 << 20, func(string) []string { return []string{"backup", "--volume", "shop/other", otherFile(t)} }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			pipe := newPipe(t, store.Endpoint, c.after)
			cmd := p.command(c.args(dir)...)
			cmd.Env = append(cmd.Env, "AWS_ENDPOINT_URL=https://"+pipe.address, "TMPDIR="+dir)
			var said strings.Builder
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-pipe.full
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || !strings.HasSuffix(said.String(), "interrupted\n") {
				t.Errorf("exit code %d\n%s", code, said.String())
			}
			empty(t, dir)
		})
	}
	if table := p.run(t, "list"); strings.Contains(table, "shop/other") {
		t.Errorf("what was interrupted is listed:\n%s", table)
	}
}

// otherFile holds noise that no image has.
func otherFile(t *testing.T) string {
	t.Helper()
	noise := make([]byte, 64<<20)
	fillNoise(noise, 9)
	path := filepath.Join(t.TempDir(), "other.img")
	write(t, path, noise)
	return path
}

// pipe passes connections on until so many bytes went through, and then none.
type pipe struct {
	address string
	full    chan struct{}
	once    sync.Once
	mu      sync.Mutex
	left    int
}

func newPipe(t *testing.T, to string, after int) *pipe {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := &pipe{address: l.Addr().String(), full: make(chan struct{}), left: after}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			go p.pass(client, server)
			go p.pass(server, client)
		}
	}()
	return p
}

func (p *pipe) pass(from, to net.Conn) {
	defer func() { _ = to.Close() }()
	in := bufio.NewReaderSize(from, 64<<10)
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		p.mu.Lock()
		p.left -= n
		silent := p.left < 0
		p.mu.Unlock()
		if silent {
			p.once.Do(func() { close(p.full) })
			// Read on, so that the other side notices nothing but silence.
			_, _ = io.Copy(io.Discard, from)
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
