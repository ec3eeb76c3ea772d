package progress

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// Screen draws pictures over each other on a terminal.
type Screen struct {
	// Out is the terminal.
	Out io.Writer
	// Size is asked before each picture, since a terminal can change its size.
	Size  func() Size
	drawn int
}

// Show draws the Migration over the picture before.
func (s *Screen) Show(m *api.Migration, now time.Time) error {
	lines := Picture(m, now, s.Size())
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r", s.drawn)
	}
	for _, line := range lines {
		b.WriteString("\x1b[2K" + line + "\n")
	}
	// What is left of a longer picture before.
	b.WriteString("\x1b[J")
	s.drawn = len(lines)
	_, err := io.WriteString(s.Out, b.String())
	return err
}

// journalEvery is the least time between two lines of a journal.
const journalEvery = 3 * time.Second

// Journal writes a line when the Migration changed, at most every few seconds;
// what is final is always written.
type Journal struct {
	Out   io.Writer
	last  string
	wrote time.Time
}

// Show writes the Migration if it is time.
func (j *Journal) Show(m *api.Migration, now time.Time) error {
	line := Line(m)
	if line == j.last || (now.Sub(j.wrote) < journalEvery && !Final(m)) {
		return nil
	}
	j.last, j.wrote = line, now
	_, err := fmt.Fprintf(j.Out, "%s %s\n", quantity.Duration(elapsed(m, now)), line)
	return err
}

// Line tells the Migration in one line, without the time that has passed.
func Line(m *api.Migration) string {
	parts := append(state(m), counts(m)...)
	line := strings.Join(parts, ", ")
	if total := totals(m.Status.Volumes); total != "" {
		line += ", " + total
	}
	if n := note(m); n != "" {
		line += ", " + n
	}
	for _, v := range m.Status.Volumes {
		if v.Status == api.MigrationStatusSuccessful || v.Step == "" {
			continue
		}
		line += "; " + volumeName(v) + " " + v.Step
		if v.Status == api.MigrationStatusFailed {
			line += " failed: " + oneLine(v.Reason)
		} else if v.BytesTotal > 0 {
			line += fmt.Sprintf(" %d%%", quantity.Percent(v.BytesDone, v.BytesTotal))
		}
	}
	return line
}

// totals sums up the volumes' bytes, rates, and the longest time left.
func totals(volumes []api.MigrationVolumeInfo) string {
	var done, total, rate int64
	var longest time.Duration
	for _, v := range volumes {
		total += v.BytesTotal
		if v.Status == api.MigrationStatusSuccessful {
			done += v.BytesTotal
			continue
		}
		done += v.BytesDone
		if v.BytesPerSecond > 0 {
			rate += v.BytesPerSecond
			longest = max(longest, left(v))
		}
	}
	if total == 0 {
		return ""
	}
	text := fmt.Sprintf("%s of %s", quantity.Bytes(done), quantity.Bytes(total))
	if rate > 0 {
		text += fmt.Sprintf(", %s/s, %s left", quantity.Bytes(rate), quantity.Duration(longest))
	}
	return text
}
