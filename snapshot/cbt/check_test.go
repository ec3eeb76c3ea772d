package cbt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// bench is a scratch volume of a running driver.
type bench struct {
	*storage
	size    int64
	volume  string
	image   string
	handles []string
}

func newBench(s *storage, name string, size int64) *bench {
	s.t.Helper()
	b := &bench{storage: s, size: size}
	b.volume, b.image = s.create(name, size)
	return b
}

func (b *bench) Size() int64 { return b.size }

func (b *bench) Write(_ context.Context, writes []Write) error {
	f, err := os.OpenFile(b.image, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(Scribble(f, writes), f.Close())
}

func (b *bench) Snapshot(context.Context) error {
	b.handles = append(b.handles, b.snapshot(fmt.Sprint(b.volume, len(b.handles)), b.volume))
	return nil
}

func (b *bench) Ask(ctx context.Context, questions []Question) ([]Answer, error) {
	return Answers(ctx, questions, b.handles, func(i int) (*Client, error) { return Socket(b.sock, b.handles[i], nil) })
}

func TestCheck(t *testing.T) {
	program := buildDriver(t)
	for _, c := range []struct {
		name   string
		args   []string
		faults []string
		want   string // a fault; empty for a sound storage
	}{
		{name: "sound"},
		{name: "sound in blocks", args: []string{"--fixed-blocks", "65536"}},
		{name: "sound, but breaks", faults: []string{"GetMetadataDelta cut=0 fail=1", "GetMetadataAllocated cut=0 fail=2"}},
		{name: "omits", faults: []string{"GetMetadataDelta lie=omit"}, want: "asked what changed from snapshot 0 to 1, it leaves out"},
		{name: "omits once", faults: []string{"GetMetadataDelta lie=omit fail=4"}, want: "asked what changed from snapshot 0 to 3, it leaves out"},
		{name: "omits what is allocated", faults: []string{"GetMetadataAllocated lie=omit fail=3"}, want: "asked what snapshot 3 has allocated, it leaves out"},
		{name: "omits when it is asked again", faults: []string{"GetMetadataDelta lie=omit fail=5"}, want: "from byte"},
		{name: "tells of none", faults: []string{"GetMetadataDelta lie=empty"}, want: "it leaves out"},
		{name: "overlaps", faults: []string{"GetMetadataDelta lie=overlap"}, want: "it breaks the specification: "},
		{name: "does not track", args: []string{"--flavor", "block"}, want: "it does not answer (NotTracked)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startDriver(t, program, c.args...)
			s.faults(c.faults...)
			r, err := Check(t.Context(), newBench(s, "scratch", leastScratch+1<<20), 7)
			must(t, err)
			if r.Sound() != (c.want == "") {
				t.Errorf("sound: %t", r.Sound())
			}
			faults := slices.DeleteFunc(slices.Clone(r.Findings), func(f Finding) bool { return !f.Fault })
			if c.want != "" && !slices.ContainsFunc(faults, func(f Finding) bool { return strings.Contains(f.Text, c.want) }) {
				t.Errorf("no fault with %q", c.want)
			}
			if len(r.Findings) != 10 || t.Failed() {
				t.Errorf("%d findings: %+v", len(r.Findings), r.Findings)
			}
		})
	}
	if _, err := Check(t.Context(), newBench(startDriver(t, program), "small", 1<<20), 7); err == nil || !strings.Contains(err.Error(), "too small") {
		t.Errorf("error %v", err)
	}
}

func TestScribbleIsWhatThePlanSays(t *testing.T) {
	rounds, err := plan(leastScratch+sector, 3)
	must(t, err)
	file := t.TempDir() + "/scratch"
	must(t, os.WriteFile(file, make([]byte, leastScratch+sector), 0o600))
	was, before := state{}, make([]byte, leastScratch+sector)
	for i, writes := range rounds {
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		must(t, err)
		must(t, errors.Join(Scribble(f, writes), f.Close()))
		after, err := os.ReadFile(file)
		must(t, err)
		is := was.after(writes)
		changed := was.changed(is)
		for at := int64(0); at < int64(len(after)); at += sector {
			if differs := !bytes.Equal(before[at:at+sector], after[at:at+sector]); differs != changed[at] {
				t.Fatalf("round %d: the sector at %d changed: %t, and the plan says %t", i, at, differs, changed[at])
			}
		}
		was, before = is, after
	}
	for _, w := range []Write{{Offset: -512, Length: 512}, {Offset: 1, Length: 512}, {Offset: 0, Length: 0}, {Offset: 0, Length: 1 << 40}} {
		if err := Scribble(nil, []Write{w}); err == nil {
			t.Errorf("%+v was written", w)
		}
	}
}
