package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// TestRecoveryPage runs every command of docs/recovery-without-godwit.md, as it
// stands there but for the names of places, keys and ids, on what godwitctl
// volume backup wrote.
func TestRecoveryPage(t *testing.T) {
	if _, err := exec.LookPath("mke2fs"); err != nil {
		t.Skip("needs mke2fs, from e2fsprogs")
	}
	page, err := os.ReadFile("../../../../docs/recovery-without-godwit.md")
	if err != nil {
		t.Fatal(err)
	}
	store := snapshottest.StartObjectStore(t)
	binary := buildProgram(t)
	p := inStore(t, binary, store, "rescue")
	disk := filepath.Join(t.TempDir(), "disk.img")
	content := t.TempDir()
	write(t, filepath.Join(content, "file"), []byte("precious"))
	tell(t, "mke2fs", "-q", "-t", "ext4", "-d", content, disk, "24M")
	image := p.backup(t, "--create", disk).Image
	if image.Filesystem != "ext4" {
		t.Errorf("the image is %+v", image)
	}
	tree := decoded[volumeResult](t, p.run(t, "backup", "--json", "--volume", "shop/files", content)).Image

	dir := t.TempDir()
	write(t, filepath.Join(dir, "ca.pem"), store.CA)
	r := &rescue{p: p, dir: dir, target: filepath.Join(t.TempDir(), "sdx"), mount: t.TempDir(), endpoint: store.Endpoint, path: toolPath(t, binary)}
	blocks := regexp.MustCompile("(?s)```\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	ran := ""
	for _, block := range blocks {
		ran += r.run(t, block[1], image)
	}
	for _, command := range []string{"repository connect s3", "snapshot list", "snapshot verify", "kopia ls", "kopia restore", "kopia mount", "volume restore", "volume verify", "volume apply"} {
		if !strings.Contains(ran, command) {
			t.Errorf("the page has no %q", command)
		}
	}
	want, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	same(t, filepath.Join(dir, "restored", "volume"), want)
	same(t, r.target, want)

	if err := os.RemoveAll(filepath.Join(dir, "restored")); err != nil {
		t.Fatal(err)
	}
	r.run(t, "kopia restore SNAPSHOT-ID ./restored", tree)
	same(t, filepath.Join(dir, "restored", "volume", "file"), []byte("precious"))
}

// rescue is where the page's commands run.
type rescue struct {
	p                            program
	dir, target, mount, endpoint string
	// path has kopia and godwitctl in it.
	path string
	// exports are what earlier blocks of the page set.
	exports string
}

func toolPath(t *testing.T, godwitctl string) string {
	t.Helper()
	dir := t.TempDir()
	for name, binary := range map[string]string{"kopia": snapshottest.Kopia(t), "godwitctl": godwitctl} {
		if err := os.Symlink(binary, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir + ":" + os.Getenv("PATH")
}

// cannotMount is why a block of the page cannot mount what it mounts; empty where it can.
func cannotMount(script string) string {
	if os.Getuid() != 0 {
		return "needs root: mount"
	}
	if !strings.Contains(script, "kopia mount") {
		return ""
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return "needs a kernel with FUSE: kopia mount"
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		return "needs fusermount3, from fuse3: kopia mount"
	}
	return ""
}

// run runs a block of the page, and returns it as it was run.
func (r *rescue) run(t *testing.T, block string, image snapshot.Image) string {
	t.Helper()
	names := strings.NewReplacer("SNAPSHOT-ID", string(image.ID), "s3.example.com", r.endpoint, "eu-central-1", "us-east-1",
		"my-bucket", "rescue", "the/pairs/prefix/", "a/prefix/", "/dev/sdx", r.target, "/mnt", r.mount,
		"--access-key ...", "--access-key testaccess", "--secret-access-key ...", "--secret-access-key "+storeSecret,
		"AWS_ACCESS_KEY_ID=...", "AWS_ACCESS_KEY_ID=testaccess", "AWS_SECRET_ACCESS_KEY=...", "AWS_SECRET_ACCESS_KEY="+storeSecret,
		"KOPIA_PASSWORD=...", "KOPIA_PASSWORD='"+volumePassword+"'")
	script := names.Replace(block)
	if strings.Contains(script, "...") {
		t.Errorf("the page leaves something open that is not known:\n%s", block)
	}
	if strings.Contains(script, "mount ") {
		if why := cannotMount(script); why != "" {
			t.Run("mount", func(t *testing.T) { t.Skip(why) })
			return script
		}
		script = "trap 'umount ./image 2>/dev/null || true' EXIT\n" + script + "\ntest \"$(cat " + r.mount + "/file)\" = precious; umount " + r.mount
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euc", r.exports+script)
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "export ") {
			r.exports += line
		}
	}
	cmd.Dir = r.dir
	cmd.Env = []string{"PATH=" + r.path, "HOME=" + r.dir, "KOPIA_PASSWORD=" + volumePassword, "KOPIA_CHECK_FOR_UPDATES=false"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s\n%s", err, script, out)
	}
	return script
}
