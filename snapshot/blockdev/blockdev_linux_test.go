package blockdev

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

func file(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// loop attaches a loop device to a new file.
func loop(t *testing.T, size int64, options ...string) (device, backing string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: attaches loop devices")
	}
	backing = file(t, size)
	device = run(t, "losetup", append(options, "--find", "--show", backing)...)
	t.Cleanup(func() { run(t, "losetup", "--detach", device) })
	return device, backing
}

// exercise writes and zeroes at random from several goroutines, each in its
// own stripes, and compares with memory.
func exercise(t *testing.T, path string) {
	t.Helper()
	sink, err := OpenSink(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sink.Close() }()
	want := make([]byte, sink.Size())
	if err := sink.Zero(0, sink.Size()); err != nil {
		t.Fatal(err)
	}
	const stripes = 16
	var group sync.WaitGroup
	for n := range stripes {
		group.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(n), 1))
			from, to := len(want)*n/stripes, len(want)*(n+1)/stripes
			for range 60 {
				at := from + rnd.IntN(to-from)
				length := 1 + rnd.IntN(min(to-at, 40000))
				if rnd.IntN(2) == 0 { // as chunks are
					at -= (at - from) % 4096
				}
				length = min(length, to-at)
				part := want[at : at+length]
				var err error
				if rnd.IntN(4) == 0 {
					clear(part)
					err = sink.Zero(int64(at), int64(length))
				} else {
					for i := range part {
						part[i] = byte(rnd.Uint32())
					}
					_, err = sink.WriteAt(bytes.Clone(part), int64(at))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if err := sink.Sync(); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{len(want), 4096, 1000, 3<<20 + 1} {
		got := make([]byte, len(want))
		for at := 0; at < len(got); at += size {
			if _, err := sink.ReadAt(got[at:min(at+size, len(got))], int64(at)); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("read in pieces of %d, %s holds other bytes", size, path)
		}
	}
	if n, err := sink.ReadAt(make([]byte, 10), sink.Size()-4); n != 4 || err == nil {
		t.Errorf("a read past the end gave %d bytes, %v", n, err)
	}
	if _, err := sink.WriteAt(make([]byte, 10), sink.Size()-4); err == nil {
		t.Error("a write past the end was taken")
	}
}

// TestFile has sizes that go through the page cache, and around it.
func TestFile(t *testing.T) {
	for _, size := range []int64{8<<20 + 777, 8 << 20, 8<<20 + 512} {
		exercise(t, file(t, size))
	}
}

func TestLoop(t *testing.T) {
	device, _ := loop(t, 8<<20+512)
	exercise(t, device)
	device, _ = loop(t, 8<<20, "--sector-size", "4096")
	exercise(t, device)
}

func TestZeroKeepsThin(t *testing.T) {
	device, backing := loop(t, 64<<20)
	sink, err := OpenSink(device)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sink.Close() }()
	if _, err := sink.WriteAt(bytes.Repeat([]byte{1}, 32<<20), 0); err != nil {
		t.Fatal(err)
	}
	if err := sink.Zero(0, sink.Size()); err != nil {
		t.Fatal(err)
	}
	if err := sink.Sync(); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(backing, &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes are still allocated", st.Blocks*512)
	}
}

func TestMountedIsRefused(t *testing.T) {
	device, _ := loop(t, 64<<20)
	run(t, "mkfs.ext4", "-q", device)
	dir := t.TempDir()
	run(t, "mount", device, dir)
	defer run(t, "umount", dir)
	if _, err := OpenSink(device); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a mounted device: %v", err)
	}
	source, err := OpenSource(device)
	if err != nil {
		t.Fatal(err)
	}
	_ = source.Close()
}

func TestOther(t *testing.T) {
	if _, err := OpenSource(t.TempDir()); err == nil {
		t.Error("a folder was opened")
	}
	if _, err := OpenSink(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestFilesystem(t *testing.T) {
	for name, command := range map[string][]string{
		"ext2": {"mkfs.ext2", "-q", "-F"}, "ext3": {"mkfs.ext3", "-q", "-F"}, "ext4": {"mkfs.ext4", "-q", "-F"},
		"xfs": {"mkfs.xfs", "-q"}, "": nil,
	} {
		t.Run("is "+name, func(t *testing.T) {
			path := file(t, 320<<20)
			if command != nil {
				if _, err := exec.LookPath(command[0]); err != nil {
					t.Skipf("needs %s: install the filesystem's tools", command[0])
				}
				run(t, command[0], append(command[1:], path)...)
			}
			source, err := OpenSource(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = source.Close() }()
			if got, err := Filesystem(source); err != nil || got != name {
				t.Errorf("found %q, %v", got, err)
			}
		})
	}
	super := make([]byte, 128<<10)
	copy(super[btrfsSuper+64:], "_BHRfS_M")
	if got, err := Filesystem(bytes.NewReader(super)); got != "btrfs" || err != nil {
		t.Errorf("a btrfs superblock: %q, %v", got, err)
	}
	if got, err := Filesystem(bytes.NewReader([]byte("tiny"))); got != "" || err != nil {
		t.Errorf("a tiny device: %q, %v", got, err)
	}
}

// TestVolume moves a real filesystem from one device to another and back.
func TestVolume(t *testing.T) {
	from, backing := loop(t, 64<<20)
	run(t, "mkfs.ext4", "-q", from)
	dir := t.TempDir()
	store := snapshottest.NewMemory()
	write := func(name string) {
		run(t, "mount", from, dir)
		defer run(t, "umount", dir)
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte(name), 100000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	backup := func(method snapshot.Method, parent snapshot.ImageID) snapshot.Image {
		path := from
		if method == snapshot.MethodAllocated {
			path = backing
		}
		source, err := OpenSource(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = source.Close() }()
		r := snapshot.BackupRequest{Source: source, Parent: parent, Image: snapshot.Image{Method: method}}
		if method == snapshot.MethodAllocated {
			if r.Extents, err = source.Allocated(); err != nil {
				t.Fatal(err)
			}
		}
		image, stats, err := snapshot.Backup(t.Context(), r, store)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %+v", method, stats)
		return image
	}
	write("one")
	first := backup(snapshot.MethodScan, "")
	write("two")
	second := backup(snapshot.MethodAllocated, first.ID)
	to, _ := loop(t, 65<<20)
	run(t, "dd", "if=/dev/urandom", "of="+to, "bs=1M", "count=65", "status=none")
	for _, step := range [][2]snapshot.ImageID{{"", first.ID}, {first.ID, second.ID}, {second.ID, first.ID}, {first.ID, second.ID}} {
		sink, err := OpenSink(to)
		if err != nil {
			t.Fatal(err)
		}
		stats, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, From: step[0], To: step[1], Verify: snapshot.VerifyReadBack}, store)
		if err = errors.Join(err, sink.Close()); err != nil {
			t.Fatal(err)
		}
		t.Logf("apply: %+v", stats)
	}
	run(t, "e2fsck", "-fn", to)
	run(t, "cmp", "-n", "67108864", from, to)
}

// cached counts the pages of a file that are in memory.
func cached(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(m) }()
	resident := make([]byte, (len(m)+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), uintptr(unsafe.Pointer(&resident[0]))); errno != 0 {
		t.Fatal(errno)
	}
	n := 0
	for _, r := range resident {
		n += int(r & 1)
	}
	return n
}

// TestReadsPastTheCache changes a disk behind a device, and looks whether pages
// of a file are left in the cache: a read-back must see the disk.
func TestReadsPastTheCache(t *testing.T) {
	// Not whole sectors, which are written past the cache.
	path := file(t, 4<<20+100)
	sink, err := OpenSink(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sink.Close() }()
	if _, err := sink.WriteAt(bytes.Repeat([]byte{7}, 4<<20), 0); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		t.Fatal(err)
	}
	if before := cached(t, path); before == 0 && fs.Type != unix.TMPFS_MAGIC {
		t.Fatal("what was written is not cached, so this shows nothing")
	}
	if err := sink.Sync(); err != nil {
		t.Fatal(err)
	}
	if left := cached(t, path); left > 0 && fs.Type != unix.TMPFS_MAGIC {
		t.Errorf("%d pages are still cached", left)
	}
	device, backing := loop(t, 4<<20)
	sink, err = OpenSink(device)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sink.Close() }()
	page := alignedBuffer()
	read := func() byte {
		if _, err := sink.ReadAt((*page)[:4096], 0); err != nil {
			t.Fatal(err)
		}
		return (*page)[0]
	}
	if got := read(); got != 0 {
		t.Fatalf("a new file holds %d", got)
	}
	if err := os.WriteFile(backing, bytes.Repeat([]byte{9}, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != 9 {
		t.Errorf("the device was read from the cache: %d", got)
	}
}

// TestWritesPastTheCache writes a file whose file system says how to go around the page
// cache, in parts that are no whole sectors too, and looks at what is cached.
func TestWritesPastTheCache(t *testing.T) {
	const size = 4 << 20
	path := file(t, size)
	sink, err := OpenSink(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sink.Close() }()
	if sink.align == 1 {
		t.Skip("the file system of the temporary folder does not say how to go around the page cache")
	}
	want := make([]byte, size)
	for _, at := range []int64{0, 1 << 20, 3<<20 + 100, size - 7} {
		part := bytes.Repeat([]byte{byte(at>>20) + 1}, int(min(300<<10, size-at)))
		copy(want[at:], part)
		if n, err := sink.WriteAt(part, at); err != nil || n != len(part) {
			t.Fatalf("%d bytes written at %d: %v", n, at, err)
		}
	}
	if n := cached(t, path); n > 0 {
		t.Errorf("%d pages are cached", n)
	}
	got := make([]byte, size)
	if _, err := sink.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the sink reads something else than was written (%v)", err)
	}
	if got, err = os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file has %d bytes, and other ones than were written (%v)", len(got), err)
	}
}

// TestSourceIsReadFromWhereItIs reads a file that is in memory from there, and one that is
// not around the cache, without putting it there.
func TestSourceIsReadFromWhereItIs(t *testing.T) {
	const size = 4 << 20
	path := file(t, size)
	want := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	read := func() *Source {
		t.Helper()
		s, err := OpenSource(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		got := make([]byte, size+1)
		for _, at := range []int64{0, 1, 513} {
			if n, err := s.ReadAt(got, at); int64(n) != size-at || err == nil || !bytes.Equal(got[:n], want[at:]) {
				t.Errorf("read at %d: %d bytes, %v, or other ones than were written", at, n, err)
			}
		}
		return s
	}
	if s := read(); s.align != 1 {
		t.Error("a file that is in memory is read from the disk")
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
		t.Fatal(err)
	}
	if cached(t, path) > 0 {
		t.Skip("the file system of the temporary folder is in memory")
	}
	if s := read(); s.align == 1 {
		t.Skip("the file system of the temporary folder does not say how to go around the page cache")
	}
	if n := cached(t, path); n > 0 {
		t.Errorf("%d pages are cached once it was read", n)
	}
}

func TestHolesAreNotRead(t *testing.T) {
	path := file(t, 1<<30)
	sink, err := OpenSink(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sink.Close() }()
	if _, err := sink.WriteAt([]byte("here"), 500<<20); err != nil {
		t.Fatal(err)
	}
	store := snapshottest.NewMemory()
	extents, err := sink.Allocated()
	if err != nil {
		t.Fatal(err)
	}
	image, _, err := snapshot.Backup(t.Context(), snapshot.BackupRequest{
		Source: sink, Image: snapshot.Image{Method: snapshot.MethodAllocated, ChunkSize: 64 << 10}, Extents: extents,
	}, store)
	if err != nil {
		t.Fatal(err)
	}
	report, err := snapshot.Verify(t.Context(), snapshot.VerifyRequest{Source: sink, Image: image.ID}, store)
	if err != nil || report.Stats.Read > 2<<20 || report.Stats.Done != 1<<30 {
		t.Fatalf("verify: %+v, %v", report, err)
	}
	if _, err := sink.WriteAt([]byte("x"), 100<<20); err != nil {
		t.Fatal(err)
	}
	report, err = snapshot.Verify(t.Context(), snapshot.VerifyRequest{Source: sink, Image: image.ID}, store)
	if !errors.Is(err, snapshot.ErrDiffers) || report.Mismatches[0].Chunk.Offset != 100<<20 {
		t.Errorf("a byte in what was a hole: %+v, %v", report, err)
	}
	if err := sink.Zero(0, sink.Size()); err != nil {
		t.Fatal(err)
	}
	if report, err = snapshot.Verify(t.Context(), snapshot.VerifyRequest{Source: sink, Image: image.ID}, store); report.Differing != 1 {
		t.Errorf("a hole in what was data: %+v, %v", report, err)
	}
}

// TestIdentity puts other files and devices in the same place.
func TestIdentity(t *testing.T) {
	identify := func(path string) string {
		t.Helper()
		sink, err := OpenSink(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = sink.Close() }()
		id, err := sink.Identity()
		if err != nil || id == "" {
			t.Fatalf("%q, %v", id, err)
		}
		t.Log(id)
		return id
	}
	path := file(t, 1<<20)
	first := identify(path)
	if again := identify(path); again != first {
		t.Errorf("one file is %q and %q", first, again)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if other := identify(path); other == first {
		t.Errorf("two files are %q", other)
	}
	device, _ := loop(t, 1<<20)
	first = identify(device)
	if again := identify(device); again != first {
		t.Errorf("one device is %q and %q", first, again)
	}
	device, _ = loop(t, 1<<20)
	if other := identify(device); other == first {
		t.Errorf("two devices are %q", other)
	}
}
