package progress

import (
	"strings"
	"testing"
	"time"

	"github.com/godwit-io/godwit/snapshot"
)

func TestTransferOnATerminal(t *testing.T) {
	var out strings.Builder
	tr := &Transfer{Out: &out, Terminal: func() Size { return Size{Width: 80, Height: 24} }, What: "back up c/n/v"}
	now := start()
	tr.Show(snapshot.Stats{Total: 4 << 30}, now)
	out.Reset()
	tr.Show(snapshot.Stats{Total: 4 << 30, Done: 1 << 30, Uploaded: 512 << 20}, now.Add(4*time.Second))
	want := "\r\x1b[2Kback up c/n/v  [====>               ]  25%  1.0 GiB/4.0 GiB  256.0 MiB/s  12s l"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
	out.Reset()
	tr.End()
	tr.End()
	if out.String() != "\r\x1b[2K" {
		t.Errorf("the end is %q", out.String())
	}
}

func TestTransferFollowsTheRateOfTheLastSeconds(t *testing.T) {
	tr := &Transfer{Out: &strings.Builder{}}
	now, done := start(), int64(0)
	for i := range 60 {
		if i < 30 {
			done += 100 << 20
		} else {
			done += 10 << 20
		}
		tr.Show(snapshot.Stats{Total: 8 << 30, Done: done}, now.Add(time.Duration(i)*time.Second))
	}
	if got := tr.rate(); got != 10<<20 {
		t.Errorf("the rate is %d", got)
	}
	if n := len(tr.window); n > 15 {
		t.Errorf("%d samples are kept", n)
	}
}

func TestTransferInALog(t *testing.T) {
	var out strings.Builder
	tr := &Transfer{Out: &out, What: "restore"}
	for i := range 15 {
		tr.Show(snapshot.Stats{Total: 15 << 20, Done: int64(i+1) << 20, Fetched: 7}, start().Add(time.Duration(i)*500*time.Millisecond))
	}
	tr.End()
	want := "3s restore  [========>           ]  46%  7.0 MiB/15.0 MiB  2.0 MiB/s  4s left  fetched 7 B\n" +
		"6s restore  [================>   ]  86%  13.0 MiB/15.0 MiB  2.0 MiB/s  1s left  fetched 7 B\n"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
}
