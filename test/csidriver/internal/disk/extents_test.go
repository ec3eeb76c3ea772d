package disk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// Delta and Allocated are exact on whichever filesystem the tests run, also
// without root: between clones, where blocks may be shared, and between files
// that share nothing.
func TestDeltaOnPlainFiles(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 2))
	t.Logf("seed %d", seed)
	dir := t.TempDir()
	for round := range 40 {
		base, target := filepath.Join(dir, fmt.Sprint("b", round)), filepath.Join(dir, fmt.Sprint("t", round))
		if err := CreateImage(base, int64(1+rnd.IntN(900))*BlockSize); err != nil {
			t.Fatal(err)
		}
		scribble(t, rnd, base)
		if _, err := Clone(base, target); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(target, int64(900+rnd.IntN(200))*BlockSize); err != nil {
			t.Fatal(err)
		}
		scribble(t, rnd, target)
		from := rnd.Int64N(900 * BlockSize)
		var got []Extent
		err := Delta(base, target, from, func(e Extent) error { got = append(got, e); return nil })
		if err != nil {
			t.Fatal(err)
		}
		if want := compareBytes(t, base, target, from); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("round %d from %d: %v, want %v", round, from, got, want)
		}
		checkAllocated(t, target)
	}
}

func scribble(t *testing.T, rnd *rand.Rand, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	size, err := sizeOf(f)
	if err != nil {
		t.Fatal(err)
	}
	for range rnd.IntN(12) {
		b := bytes.Repeat([]byte{byte(rnd.IntN(3))}, 1+rnd.IntN(int(min(size, 9000))))
		if _, err := f.WriteAt(b, rnd.Int64N(size-int64(len(b))+1)); err != nil {
			t.Fatal(err)
		}
	}
}

func compareBytes(t *testing.T, base, target string, from int64) []Extent {
	t.Helper()
	b, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	x, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, make([]byte, len(x)-min(len(b), len(x)))...)
	var all []Extent
	m := merger{yield: func(e Extent) error { all = append(all, e); return nil }}
	for off := alignDown(from); off < int64(len(x)); off += BlockSize {
		if !bytes.Equal(b[off:off+BlockSize], x[off:off+BlockSize]) {
			if err := m.add(Extent{Offset: off, Length: BlockSize}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := m.flush(); err != nil {
		t.Fatal(err)
	}
	return all
}

// checkAllocated holds that what is left out reads as zeros.
func checkAllocated(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	err = Allocated(path, 0, func(e Extent) error {
		clear(b[e.Offset:e.End()])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Count(b, []byte{0}) != len(b) {
		t.Errorf("%s: data outside of the allocated extents", path)
	}
}

func TestSweepSkipsOnlySharedBlocks(t *testing.T) {
	const k = BlockSize
	base := []segment{{0, 4 * k, 100 * k, true}, {6 * k, 2 * k, 200 * k, true}, {10 * k, k, 0, false}}
	target := []segment{{0, 2 * k, 100 * k, true}, {2 * k, 2 * k, 300 * k, true}, {6 * k, 2 * k, 200 * k, true}, {10 * k, k, 0, false}, {12 * k, k, 400 * k, true}}
	var got []Extent
	m := merger{yield: func(e Extent) error { got = append(got, e); return nil }}
	if err := sweep(base, target, 0, 14*k, m.add); err != nil {
		t.Fatal(err)
	}
	if err := m.flush(); err != nil {
		t.Fatal(err)
	}
	want := []Extent{{2 * k, 2 * k}, {10 * k, k}, {12 * k, k}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("suspect %v, want %v", got, want)
	}
}

func TestBlankAndProbe(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	if err := CreateImage(image, 8<<20); err != nil {
		t.Fatal(err)
	}
	check := func(wantBlank bool, wantType string) {
		t.Helper()
		blank, err := Blank(image)
		if err != nil || blank != wantBlank {
			t.Errorf("blank %t (%v), want %t", blank, err, wantBlank)
		}
		if fsType, err := ProbeType(image); err != nil || fsType != wantType {
			t.Errorf("type %q (%v), want %q", fsType, err, wantType)
		}
	}
	check(true, "")
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteAt(make([]byte, 64<<10), 1<<20); err != nil {
		t.Fatal(err)
	}
	check(true, "") // allocated, yet zeros
	if _, err := f.WriteAt([]byte{1}, 8<<20-1); err != nil {
		t.Fatal(err)
	}
	check(false, "")
	if err := Wipe(image); err != nil {
		t.Fatal(err)
	}
	check(true, "")
	if err := Format(t.Context(), image, Ext4); err != nil {
		t.Fatal(err)
	}
	check(false, Ext4)
	if grow, err := NeedsGrowth(image, 8<<20); err != nil || grow {
		t.Errorf("growth %t (%v)", grow, err)
	}
	if grow, err := NeedsGrowth(image, 16<<20); err != nil || !grow {
		t.Errorf("growth %t (%v)", grow, err)
	}
}

func TestParseMount(t *testing.T) {
	m, err := parseMount(`97 60 7:3 / /var/lib/a\040b\134c ro,nosuid shared:1 master:7 - ext4 /dev/loop3 rw,errors=continue`)
	want := Mount{Dev: "7:3", Root: "/", Target: `/var/lib/a b\c`, FSType: "ext4", ReadOnly: true}
	if err != nil || m != want {
		t.Errorf("%+v (%v), want %+v", m, err, want)
	}
	if _, err := parseMount("nonsense"); err == nil {
		t.Error("nonsense was read")
	}
}
