package progress

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	"github.com/godwit-io/godwit/snapshot"
)

// rateWindow is how far back the rate of a transfer looks: long enough to be
// steady, short enough to follow a change.
const rateWindow = 10 * time.Second

// Transfer shows one volume on its way: on a terminal as one line that is drawn
// over itself, elsewhere as a line every few seconds.
type Transfer struct {
	// Out is where lines go.
	Out io.Writer
	// Terminal is the size of the terminal that Out is; nil where it is none.
	Terminal func() Size
	// What is done to what.
	What string

	begun, wrote time.Time
	window       []sample
	drawn        bool
}

type sample struct {
	at   time.Time
	done int64
}

// Show tells how far the transfer is at now.
func (t *Transfer) Show(s snapshot.Stats, now time.Time) {
	if t.begun.IsZero() {
		t.begun, t.wrote = now, now
	}
	t.window = append(t.window, sample{now, s.Done})
	for len(t.window) > 2 && now.Sub(t.window[1].at) >= rateWindow {
		t.window = t.window[1:]
	}
	if t.Terminal != nil {
		t.drawn = true
		fmt.Fprint(t.Out, "\r\x1b[2K"+clip(t.line(s), max(t.Terminal().Width-1, 0)))
		return
	}
	if now.Sub(t.wrote) >= journalEvery {
		t.wrote = now
		fmt.Fprintf(t.Out, "%s %s\n", quantity.Duration(now.Sub(t.begun)), t.line(s))
	}
}

// End leaves the terminal to what is written next.
func (t *Transfer) End() {
	if t.drawn {
		t.drawn = false
		fmt.Fprint(t.Out, "\r\x1b[2K")
	}
}

func (t *Transfer) line(s snapshot.Stats) string {
	parts := []string{oneLine(t.What)}
	if s.Total > 0 {
		percent := quantity.Percent(s.Done, s.Total)
		parts = append(parts, fmt.Sprintf("%s %3d%%", bar(percent), percent), quantity.Bytes(s.Done)+"/"+quantity.Bytes(s.Total))
	}
	if rate := t.rate(); rate > 0 {
		parts = append(parts, quantity.Bytes(rate)+"/s")
		if s.Total > s.Done {
			parts = append(parts, quantity.Duration(time.Duration((s.Total-s.Done)/rate)*time.Second)+" left")
		}
	}
	for _, part := range []struct {
		word  string
		bytes int64
	}{{"uploaded", s.Uploaded}, {"fetched", s.Fetched}} {
		if part.bytes > 0 {
			parts = append(parts, part.word+" "+quantity.Bytes(part.bytes))
		}
	}
	return strings.Join(parts, "  ")
}

// rate is in bytes per second over the window.
func (t *Transfer) rate() int64 {
	first, last := t.window[0], t.window[len(t.window)-1]
	span := last.at.Sub(first.at)
	if span <= 0 {
		return 0
	}
	return int64(float64(last.done-first.done) / span.Seconds())
}
