package driver

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

func TestParseFault(t *testing.T) {
	for line, want := range map[string]fault{
		"A fail=2":                   {method: "A", from: 2, to: 2, cut: -1, code: codes.Unavailable},
		"A fail=2-4 code=ABORTED":    {method: "A", from: 2, to: 4, cut: -1, code: codes.Aborted},
		"A fail=3-":                  {method: "A", from: 3, cut: -1, code: codes.Unavailable},
		"A fail=* after":             {method: "A", from: 1, after: true, cut: -1, code: codes.Unavailable},
		"A delay=3s":                 {method: "A", delay: 3 * time.Second, cut: -1, code: codes.Unavailable},
		"A cut=0 fail=1":             {method: "A", from: 1, to: 1, code: codes.Unavailable},
		"A lie=omit":                 {method: "A", lie: "omit", cut: -1, code: codes.Unavailable},
		"A lie=beyond fail=2":        {method: "A", lie: "beyond", from: 2, to: 2, cut: -1, code: codes.Unavailable},
		"A lie=white":                {},
		"lose-base":                  {lostBase: "*", cut: -1, code: codes.Unavailable},
		"lose-base=snap-1":           {lostBase: "snap-1", cut: -1, code: codes.Unavailable},
		"lose-base of=a-*":           {lostBase: "*", of: "a-*", cut: -1, code: codes.Unavailable},
		"A fail=1 of=[":              {},
		"A fail=1-x":                 {},
		"A":                          {},
		"A explode":                  {},
		"A code=NO_SUCH_CODE fail=1": {},
	} {
		got, err := parseFault(line)
		got.line = ""
		if (err != nil) != (want == fault{}) || (err == nil && got != want) {
			t.Errorf("%q: %+v (%v), want %+v", line, got, err, want)
		}
	}
}

func TestFaultsCountFromWhenTheyAppear(t *testing.T) {
	fixed, err := parseFaults("# a remark\nA fail=2; B fail=1")
	if err != nil {
		t.Fatal(err)
	}
	fs := newFaults(fixed, filepath.Join(t.TempDir(), "none"))
	var got []bool
	for range 3 {
		hit, err := fs.strike("A", "")
		if err != nil || len(hit) != 1 {
			t.Fatal(hit, err)
		}
		got = append(got, before(t.Context(), hit) != nil)
	}
	if fmt.Sprint(got) != "[false true false]" {
		t.Errorf("failed: %v", got)
	}
}

func TestFaultsOfOneNamespace(t *testing.T) {
	fixed, err := parseFaults("A fail=2 of=bad-*; lose-base of=lost")
	if err != nil {
		t.Fatal(err)
	}
	fs := newFaults(fixed, filepath.Join(t.TempDir(), "none"))
	var failed []string
	for _, namespace := range []string{"bad-1", "good", "", "good", "bad-2", "bad-1"} {
		hit, err := fs.strike("A", namespace)
		if err != nil {
			t.Fatal(err)
		}
		if before(t.Context(), hit) != nil {
			failed = append(failed, namespace)
		}
		if lost, err := fs.baseLost("snap-1", namespace); lost || err != nil {
			t.Errorf("the base of %q is lost (%v)", namespace, err)
		}
	}
	if fmt.Sprint(failed) != "[bad-2]" {
		t.Errorf("failed: %v", failed)
	}
	if lost, err := fs.baseLost("snap-1", "lost"); !lost || err != nil {
		t.Errorf("the base is there (%v)", err)
	}
}

func TestPageTokens(t *testing.T) {
	ids := []string{"vol-1", "vol-3", "vol-5", "vol-7"}
	got, next, err := page(ids, "", 2)
	if err != nil || fmt.Sprintf("%v %s", got, next) != "[vol-1 vol-3] vol-3" {
		t.Error(got, next, err)
	}
	// vol-3 went and vol-4 came between the pages.
	got, next, err = page([]string{"vol-1", "vol-4", "vol-5", "vol-7"}, next, 2)
	if err != nil || fmt.Sprintf("%v %s", got, next) != "[vol-4 vol-5] vol-5" {
		t.Error(got, next, err)
	}
	got, next, err = page(ids, next, 2)
	if err != nil || fmt.Sprintf("%v %s", got, next) != "[vol-7] " {
		t.Error(got, next, err)
	}
	if _, _, err := page(ids, "nonsense", 0); err == nil {
		t.Error("nonsense is a token")
	}
}
