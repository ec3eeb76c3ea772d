package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

const (
	volumePassword = "correct horse battery staple"
	storeSecret    = "testsecret123"
)

// program is the built godwitctl with a repository to work on.
type program struct {
	binary string
	repo   string
	env    []string
	// missing is said where there is no repository.
	missing string
	// said is all that any run wrote, where no secret may stand.
	said *strings.Builder
}

// programFolder is where godwitctl is built to.
var programFolder string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if programFolder, err = os.MkdirTemp("", "godwitctl-test-"); err != nil {
			fmt.Fprintf(os.Stderr, "make a folder for godwitctl: %v\n", err)
			return 1
		}
		defer os.RemoveAll(programFolder) //nolint:errcheck // it is temporary
		return m.Run()
	}())
}

// buildOnce builds it for all tests: linking it takes longer than most of them.
var buildOnce = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(programFolder, "godwitctl")
	cmd := exec.Command("go", "build", "-o", binary, "github.com/godwit-io/godwit/cmd/godwitctl")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build godwitctl: %w\n%s", err, out)
	}
	return binary, nil
})

// buildProgram gives godwitctl as users run it.
func buildProgram(t *testing.T) string {
	t.Helper()
	binary, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

func inFolder(t *testing.T, binary string) program {
	return program{binary, "file://" + filepath.Join(t.TempDir(), "repository"), environ(t), "repository does not exist", &strings.Builder{}}
}

func inStore(t *testing.T, binary string, s *snapshottest.ObjectStore, bucket string) program {
	l := s.Location(t, bucket)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, l.CABundle, 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(environ(t), "AWS_ACCESS_KEY_ID="+l.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+l.SecretAccessKey.Reveal(),
		"AWS_ENDPOINT_URL=https://"+l.Endpoint, "AWS_REGION="+l.Region, "AWS_CA_BUNDLE="+ca)
	return program{binary, "s3://" + bucket + "/a/prefix", env, "there is no repository yet", &strings.Builder{}}
}

// environ has nothing of whoever runs the test.
func environ(t *testing.T) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir(), "HOME=" + t.TempDir(), "KOPIA_PASSWORD=" + volumePassword}
}

func (p program) command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.binary, append([]string{"volume", "--repo", p.repo}, args...)...)
	cmd.Env = p.env
	return cmd
}

// try runs volume ARGS.
func (p program) try(args ...string) (out, said string, code int) {
	cmd := p.command(args...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	p.said.WriteString(stdout.String() + stderr.String())
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// run runs volume ARGS, which must succeed.
func (p program) run(t *testing.T, args ...string) string {
	t.Helper()
	out, said, code := p.try(args...)
	if code != 0 {
		t.Fatalf("volume %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, said)
	}
	return out
}

// refuse runs volume ARGS, which must fail with one line that says so.
func (p program) refuse(t *testing.T, want string, args ...string) {
	t.Helper()
	out, said, code := p.try(args...)
	lines := strings.Split(strings.TrimSpace(said), "\n")
	last := lines[len(lines)-1]
	if code != exitFailure || !strings.HasPrefix(last, "error: ") || !strings.Contains(last, want) {
		t.Errorf("volume %s: exit code %d\n%s%s\nwant an error with %q", strings.Join(args, " "), code, out, said, want)
	}
}

func (p program) backup(t *testing.T, args ...string) volumeResult {
	t.Helper()
	return decoded[volumeResult](t, p.run(t, append([]string{"backup", "--json", "--volume", "shop/data"}, args...)...))
}

func decoded[T any](t *testing.T, out string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v in:\n%s", err, out)
	}
	return v
}

const (
	volumeLength = 20 << 20
	chunkLength  = 128 << 10
)

// sparseFile has noise in 5 of 20 MiB, and an odd length.
func sparseFile(t *testing.T) (path string, content []byte) {
	t.Helper()
	content = make([]byte, volumeLength+777)
	fillNoise(content[:4<<20], 1)
	fillNoise(content[12<<20:13<<20], 2)
	path = filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(int64(len(content))); err != nil {
		t.Fatal(err)
	}
	for _, at := range [][2]int{{0, 4 << 20}, {12 << 20, 13 << 20}} {
		if _, err := f.WriteAt(content[at[0]:at[1]], int64(at[0])); err != nil {
			t.Fatal(err)
		}
	}
	return path, content
}

func fillNoise(b []byte, seed byte) {
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s holds other bytes (%d, %v) than it should (%d)", path, len(got), err, len(want))
	}
}

func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("%s holds %v (%v), want nothing", dir, left, err)
	}
}

// TestVolume tells the story of a volume with the built program.
func TestVolume(t *testing.T) {
	binary := buildProgram(t)
	t.Run("folder", func(t *testing.T) { testVolume(t, inFolder(t, binary)) })
	t.Run("object store", func(t *testing.T) {
		testVolume(t, inStore(t, binary, snapshottest.StartObjectStore(t), "volumes"))
	})
}

func testVolume(t *testing.T, p program) {
	path, first := sparseFile(t)
	p.refuse(t, p.missing, "backup", path)
	p.refuse(t, "at least 16 characters", "backup", "--create", "--password-file", passwordFile(t, "short"), path)

	a := p.backup(t, "--create", path)
	if a.Image.Method != snapshot.MethodAllocated || a.Image.Size != int64(len(first)) || a.Parent != "" || a.Stats.Read < 5<<20 || a.Stats.Read > 6<<20 {
		t.Errorf("the first backup is %+v", a)
	}
	again := p.backup(t, path)
	if again.Parent != string(a.Image.ID) || again.Stats.Changed != 0 || again.Stats.Uploaded > 64<<10 {
		t.Errorf("a backup of the same is %+v", again)
	}
	second := bytes.Clone(first)
	fillNoise(second[6<<20:6<<20+300<<10], 3)
	write(t, path, second)
	b := p.backup(t, "--parent", "none", path)

	list := decoded[[]snapshot.Image](t, p.run(t, "list", "--json"))
	if len(list) != 3 || list[0].ID != a.Image.ID || list[2].ID != b.Image.ID {
		t.Errorf("the list is %v", list)
	}
	table := p.run(t, "list", "--volume", "shop/data")
	if strings.Count(table, "\n") != 4 || !strings.Contains(table, "shop/data") || !strings.HasPrefix(table, "IMAGE ") {
		t.Errorf("the table is\n%s", table)
	}
	t.Run("restore", func(t *testing.T) { testVolumeRestore(t, p, a, first) })
	t.Run("extents", func(t *testing.T) { testVolumeExtents(t, p, path, a, b, second) })
	t.Run("apply and verify", func(t *testing.T) { testVolumeApply(t, p, a, b, first, second) })
	t.Run("folder", func(t *testing.T) { testVolumeFolder(t, p) })
	t.Run("bad input", func(t *testing.T) { testVolumeBadInput(t, p, path, a) })
	t.Run("prune", func(t *testing.T) { testVolumePrune(t, p, b) })
	for _, secret := range []string{volumePassword, storeSecret} {
		if strings.Contains(p.said.String(), secret) {
			t.Errorf("a secret was written:\n%s", p.said)
		}
	}
}

func passwordFile(t *testing.T, password string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	write(t, file, []byte(password+"\n"))
	return file
}

func testVolumeRestore(t *testing.T, p program, a volumeResult, first []byte) {
	target := filepath.Join(t.TempDir(), "restored.img")
	result := decoded[volumeResult](t, p.run(t, "restore", "--json", "--image", string(a.Image.ID), target))
	same(t, target, first)
	if result.Stats.Fetched < 5<<20 || result.Target != target {
		t.Errorf("the restore is %+v", result)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(target, &st); err != nil || st.Blocks*512 > 8<<20 {
		t.Errorf("the restored file takes %d bytes (%v), want holes", st.Blocks*512, err)
	}
	if left, err := os.ReadDir(filepath.Dir(target)); err != nil || len(left) != 1 {
		t.Errorf("beside the restored file are %v (%v)", left, err)
	}

	mine := bytes.Repeat([]byte("mine"), len(first)/4+1)
	write(t, target, mine)
	p.refuse(t, "holds data (near byte 0), which would be lost", "restore", "--image", string(a.Image.ID), target)
	same(t, target, mine)
	p.run(t, "restore", "--force", "--volume", "shop/data", "--password-file", passwordFile(t, volumePassword), target)
	p.run(t, "restore", "--force", "--image", string(a.Image.ID), "-q", target)
	same(t, target, append(bytes.Clone(first), make([]byte, len(mine)-len(first))...))

	small := filepath.Join(t.TempDir(), "small.img")
	write(t, small, make([]byte, 4096))
	p.refuse(t, "at least as large", "restore", "--image", string(a.Image.ID), small)
	p.refuse(t, "would be no device", "restore", "--image", string(a.Image.ID), "/dev/godwit-nothere")
	p.refuse(t, "is a folder", "restore", "--image", string(a.Image.ID), t.TempDir())
}

func testVolumeExtents(t *testing.T, p program, path string, a, b volumeResult, second []byte) {
	out := p.run(t, "diff", string(a.Image.ID), string(b.Image.ID))
	if want := "6291456 393216\n"; out != want {
		t.Errorf("the diff is %q, want %q", out, want)
	}
	diff := decoded[volumeDiff](t, p.run(t, "diff", "--json", string(a.Image.ID), string(b.Image.ID)))
	if diff.Changed != 3*chunkLength || len(diff.Extents) != 1 {
		t.Errorf("the diff is %+v", diff)
	}
	if out := p.run(t, "diff", string(a.Image.ID), string(a.Image.ID)); out != "" {
		t.Errorf("an image differs from itself: %q", out)
	}
	extents := filepath.Join(t.TempDir(), "extents")
	write(t, extents, []byte("# what changed\n"+out))
	delta := p.backup(t, "--parent", string(a.Image.ID), "--extents", extents, path)
	if delta.Image.Method != snapshot.MethodDelta || delta.Image.Base != a.Image.ID || delta.Stats.Read != 3*chunkLength {
		t.Errorf("the delta is %+v", delta)
	}
	target := filepath.Join(t.TempDir(), "restored.img")
	p.run(t, "restore", "--volume", "shop/data", target)
	same(t, target, second)

	args := []string{"backup", "--json", "--volume", "shop/scanned", "--scan", "--rate", "1GiB/s", path}
	p.run(t, args...)
	scan := decoded[volumeResult](t, p.run(t, args...))
	if scan.Image.Method != snapshot.MethodScan || scan.Stats.Read != int64(len(second)) || scan.Stats.Changed != 0 {
		t.Errorf("a scan of the same is %+v", scan)
	}

	p.refuse(t, "name it with --parent ID", "backup", "--extents", extents, path)
	for text, want := range map[string]string{"1 x": "line 1: write OFFSET LENGTH", "\n0 99999999999": "line 2: 99999999999 bytes at 0 are outside", "-1 5": "line 1"} {
		write(t, extents, []byte(text))
		p.refuse(t, want, "backup", "--volume", "shop/data", "--parent", string(a.Image.ID), "--extents", extents, path)
	}
}

func testVolumeApply(t *testing.T, p program, a, b volumeResult, first, second []byte) {
	target := filepath.Join(t.TempDir(), "target.img")
	write(t, target, first)
	journal := filepath.Join(t.TempDir(), "journal")
	forth := decoded[volumeResult](t, p.run(t, "apply", "--json", "--journal", journal, "--from", string(a.Image.ID), "--to", string(b.Image.ID), target))
	same(t, target, second)
	if forth.Stats.Written != 3*chunkLength {
		t.Errorf("forth: %+v", forth)
	}
	if _, err := os.Stat(journal); err == nil {
		t.Error("a finished apply left its journal")
	}
	p.run(t, "apply", "--from", string(b.Image.ID), "--to", string(a.Image.ID), target)
	same(t, target, first)
	p.run(t, "verify", "--image", string(a.Image.ID), target)

	spoiled := bytes.Clone(first)
	spoiled[12<<20+5]++
	write(t, target, spoiled)
	p.refuse(t, "differs from image "+string(a.Image.ID), "verify", "--image", string(a.Image.ID), target)
	out, _, _ := p.try("verify", "--image", string(a.Image.ID), target)
	if want := "12582912 131072\n"; out != want {
		t.Errorf("verify prints %q, want %q", out, want)
	}
	mended := decoded[volumeResult](t, p.run(t, "apply", "--json", "--to", string(a.Image.ID), target))
	same(t, target, first)
	if mended.Stats.Written != chunkLength {
		t.Errorf("mended: %+v", mended)
	}

	other := bytes.Repeat([]byte("other"), len(first)/5+1)
	write(t, target, other)
	p.refuse(t, "does not hold image", "apply", "--from", string(a.Image.ID), "--to", string(b.Image.ID), target)
	p.refuse(t, "hardly anything of image", "apply", "--to", string(b.Image.ID), target)
	same(t, target, other)
	p.run(t, "apply", "--force", "--to", string(b.Image.ID), target)
	same(t, target, append(bytes.Clone(second), make([]byte, len(other)-len(second))...))
}

func testVolumeFolder(t *testing.T, p program) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), []byte("content"))
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	tree := decoded[volumeResult](t, p.run(t, "backup", "--json", "--volume", "shop/files", dir))
	if tree.Image.Kind != snapshot.Tree || tree.Image.Method != snapshot.MethodFiles {
		t.Errorf("the image is %+v", tree)
	}
	target := t.TempDir()
	write(t, filepath.Join(target, "mine"), []byte("mine"))
	p.refuse(t, "is not empty", "restore", "--image", string(tree.Image.ID), target)
	same(t, filepath.Join(target, "mine"), []byte("mine"))
	const notForFolders = " is for devices and files, and not for folders"
	p.refuse(t, "--scan"+notForFolders, "backup", "--volume", "shop/files", "--scan", dir)
	p.refuse(t, "--moment"+notForFolders, "backup", "--volume", "shop/files", "--moment", "m", dir)
	p.refuse(t, "--extents"+notForFolders, "backup", "--volume", "shop/files", "--parent", string(tree.Image.ID), "--extents", "x", dir)
	p.refuse(t, "--journal"+notForFolders, "restore", "--image", string(tree.Image.ID), "--journal", "j", filepath.Join(target, "new"))
	p.refuse(t, "--no-read-back"+notForFolders, "restore", "--image", string(tree.Image.ID), "--no-read-back", filepath.Join(target, "new"))
	if _, err := os.Lstat(filepath.Join(target, "new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a restore that was refused made a folder: %v", err)
	}
	p.run(t, "restore", "--image", string(tree.Image.ID), filepath.Join(target, "new"))
	same(t, filepath.Join(target, "new", "link"), []byte("content"))
	p.refuse(t, "use restore", "apply", "--to", string(tree.Image.ID), filepath.Join(dir, "file"))
	testVolumeFolderVerified(t, p, tree.Image, filepath.Join(target, "new"))
}

func testVolumeFolderVerified(t *testing.T, p program, image snapshot.Image, dir string) {
	verify := func(more ...string) []string { return append([]string{"verify", "--image", string(image.ID)}, more...) }
	same := decoded[treeVerdict](t, p.run(t, verify("--json", dir)...))
	if same.Differs != "" || same.Target != dir || same.Image.ID != image.ID || same.Stats.Read != int64(len("content")) {
		t.Errorf("of what was restored it says %+v", same)
	}
	if out := p.run(t, verify("--sample", "1", dir)...); !strings.HasPrefix(out, dir+" holds image ") {
		t.Errorf("of a sample it says %q", out)
	}
	file := filepath.Join(dir, "file")
	write(t, file, []byte("CONTENT"))
	p.refuse(t, "1 entries differ, the first \"file\"", verify(dir)...)
	p.refuse(t, "shop/files: file \"file\": the volume differs from the image at 0: restore --force", verify("--sample", "100", dir)...)
	out, _, code := p.try(verify("--json", dir)...)
	if said := decoded[treeVerdict](t, out); code != exitFailure || !strings.HasPrefix(said.Differs, "1 entries differ") {
		t.Errorf("of another file it says %+v, with exit code %d", said, code)
	}
	if err := errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600)); err != nil {
		t.Fatal(err)
	}
	p.refuse(t, "it was a file, and is a fifo", verify(dir)...)
	p.refuse(t, "it is no file", verify("--sample", "100", dir)...)
	write(t, filepath.Join(dir, "new"), nil)
	p.refuse(t, "2 entries differ", verify(dir)...)

	p.refuse(t, "is no folder, and image", verify(filepath.Join(dir, "new"))...)
	p.refuse(t, "no such file", verify(filepath.Join(dir, "nothere"))...)
	p.refuse(t, "--workers is for devices and files", verify("--workers", "2", dir)...)
}

func testVolumeBadInput(t *testing.T, p program, path string, a volumeResult) {
	id := string(a.Image.ID)
	p.refuse(t, "repository password is wrong", "list", "--password-file", passwordFile(t, "another password that is long"))
	p.refuse(t, "volume list shows what is there", "restore", "--image", "0123456789abcdef0123456789abcdef", filepath.Join(t.TempDir(), "x"))
	p.refuse(t, "say which image", "restore", filepath.Join(t.TempDir(), "x"))
	p.refuse(t, "there is no image of volume shop/nothere", "restore", "--volume", "shop/nothere", filepath.Join(t.TempDir(), "x"))
	p.refuse(t, "names no volume", "list", "--volume", "nothere")
	p.refuse(t, "no such file", "backup", "/nothere")
	p.refuse(t, "is an image of", "backup", "--volume", "shop/other", "--parent", id, path)
	p.refuse(t, "needs the ids of two images", "diff", id)
	p.refuse(t, "say --keep-last N", "prune")
	p.refuse(t, "never removed", "prune", "--keep-last", "0")
	p.refuse(t, "is no span of time", "prune", "--older-than", "x")
	p.refuse(t, "is no rate", "backup", "--rate", "fast", path)
	p.refuse(t, "is no size of at least 32.0 MiB", "backup", "--memory", "1MiB", path)
	p.refuse(t, "leave one out", "backup", "--scan", "--parent", id, "--extents", path, path)
	p.refuse(t, "name the first with --from", "apply", "--journal", "x", "--to", id, path)
	p.refuse(t, "make it first, or leave --journal out", "restore", "--journal", "x", "--image", id, filepath.Join(t.TempDir(), "x"))
	p.refuse(t, "is a folder, and image", "verify", "--image", id, t.TempDir())
	p.refuse(t, "no percentage", "verify", "--image", id, "--sample", "101", path)
	for repo, want := range map[string]string{
		"": "which repository?", "x": "is not known", "file://host/x": "is not known", "s3://": "is not known", "s3://a:b@c/d": "must not hold keys",
		"s3://b/p?x=y": "leave out what follows", "http://b/p": "is not known",
	} {
		other := p
		other.repo = repo
		other.refuse(t, want, "list")
	}
}

func testVolumePrune(t *testing.T, p program, b volumeResult) {
	count := func() int { return len(decoded[[]snapshot.Image](t, p.run(t, "list", "--json"))) }
	before := count()
	would := p.run(t, "prune", "--keep-last", "2", "--volume", "shop/data", "--dry-run")
	if count() != before || strings.Count(would, "\n") != 3 {
		t.Errorf("a dry run removed something, or printed\n%s", would)
	}
	p.run(t, "prune", "--older-than", "1d")
	if count() != before {
		t.Error("what is young was removed")
	}
	gone := decoded[[]snapshot.Image](t, p.run(t, "prune", "--keep-last", "2", "--json"))
	if len(gone) != 2 || count() != before-2 {
		t.Errorf("removed %v", gone)
	}
	for _, image := range gone {
		if image.ID == b.Image.ID {
			t.Errorf("one of the newest was removed: %v", image)
		}
	}
}
