package progress

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// Size is the room that a terminal has, in characters; zero is without limit.
type Size struct{ Width, Height int }

// barWidth is how many characters a bar has between its brackets.
const barWidth = 20

// Picture is the lines that show the Migration at now: the stage, what it is
// at or waits for, and one line for each volume. Where there are more volumes than room,
// those that run or failed come first, and a last line counts the others.
func Picture(m *api.Migration, now time.Time, size Size) []string {
	lines := []string{stageLine(m, now)}
	if n := note(m); n != "" {
		lines = append(lines, "  "+n)
	}
	room := len(m.Status.Volumes)
	if size.Height > 0 {
		// One line stays free for the cursor, one for the count of the others.
		room = max(min(room, size.Height-len(lines)-2), 0)
	}
	lines = append(lines, volumeLines(m.Status.Volumes, room)...)
	if hidden := len(m.Status.Volumes) - room; hidden > 0 {
		lines = append(lines, fmt.Sprintf("  and %d more volumes", hidden))
	}
	for i := range lines {
		lines[i] = clip(lines[i], size.Width)
	}
	return lines
}

func stageLine(m *api.Migration, now time.Time) string {
	parts := append([]string{m.Namespace + "/" + m.Name}, state(m)...)
	return strings.Join(append(parts, counts(m)...), "  ") + "  " + quantity.Duration(elapsed(m, now))
}

// state is stage and status as far as there are any.
func state(m *api.Migration) []string {
	var parts []string
	for _, s := range []string{string(m.Status.Stage), string(m.Status.Status)} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if len(parts) == 0 {
		return []string{"not started"}
	}
	return parts
}

// counts is how many volumes and objects are there of how many.
func counts(m *api.Migration) []string {
	var parts []string
	s := m.Status.Summary
	if n := len(m.Status.Volumes); n > 0 {
		done := 0
		for _, v := range m.Status.Volumes {
			if v.Status == api.MigrationStatusSuccessful {
				done++
			}
		}
		parts = append(parts, fmt.Sprintf("volumes %d/%d", done, n))
	} else if s != nil && s.TotalNumberOfVolumes > 0 {
		parts = append(parts, fmt.Sprintf("volumes %d/%d", s.NumberOfMigratedVolumes, s.TotalNumberOfVolumes))
	}
	if s != nil && s.TotalNumberOfResources > 0 {
		parts = append(parts, fmt.Sprintf("resources %d/%d", s.NumberOfMigratedResources, s.TotalNumberOfResources))
	}
	return parts
}

func volumeLines(volumes []api.MigrationVolumeInfo, room int) []string {
	shown := volumes
	if room < len(volumes) {
		shown = slices.Clone(volumes)
		slices.SortStableFunc(shown, func(a, b api.MigrationVolumeInfo) int { return cmp.Compare(urgency(a), urgency(b)) })
		shown = shown[:room]
	}
	name, step := 0, 0
	for _, v := range shown {
		name = max(name, utf8.RuneCountInString(volumeName(v)))
		step = max(step, utf8.RuneCountInString(v.Step))
	}
	lines := make([]string, 0, len(shown))
	for _, v := range shown {
		lines = append(lines, strings.TrimRight(fmt.Sprintf("  %-*s  %-*s  %s", name, volumeName(v), step, v.Step, volumeState(v)), " "))
	}
	return lines
}

func volumeName(v api.MigrationVolumeInfo) string { return v.Namespace + "/" + v.PersistentVolumeClaim }

// urgency orders volumes by how much a watcher wants to see them.
func urgency(v api.MigrationVolumeInfo) int {
	switch v.Status {
	case api.MigrationStatusFailed, api.MigrationStatusPartialSuccess:
		return 0
	case api.MigrationStatusInProgress:
		return 1
	case api.MigrationStatusSuccessful, api.MigrationStatusPurged:
		return 3
	default:
		return 2
	}
}

// volumeState is bar, bytes, rate and time left, or why the volume failed.
func volumeState(v api.MigrationVolumeInfo) string {
	if v.Status == api.MigrationStatusFailed {
		return "failed: " + oneLine(v.Reason)
	}
	if v.BytesTotal <= 0 {
		return oneLine(v.Reason)
	}
	done := v.BytesDone
	if v.Status == api.MigrationStatusSuccessful {
		done = v.BytesTotal
	}
	percent := quantity.Percent(done, v.BytesTotal)
	state := fmt.Sprintf("%s %3d%%  %s/%s", bar(percent), percent, quantity.Bytes(done), quantity.Bytes(v.BytesTotal))
	if v.Status == api.MigrationStatusSuccessful || v.BytesPerSecond <= 0 {
		return state
	}
	return state + fmt.Sprintf("  %s/s  %s left", quantity.Bytes(v.BytesPerSecond), quantity.Duration(left(v)))
}

// left is the controller's guess, or else one from the present rate.
func left(v api.MigrationVolumeInfo) time.Duration {
	seconds := v.SecondsLeft
	if seconds <= 0 {
		seconds = max(v.BytesTotal-v.BytesDone, 0) / v.BytesPerSecond
	}
	return time.Duration(seconds) * time.Second
}

func bar(percent int) string {
	full := percent * barWidth / 100
	tip := ""
	if full < barWidth && full > 0 {
		full--
		tip = ">"
	}
	return "[" + strings.Repeat("=", full) + tip + strings.Repeat(" ", barWidth-full-len(tip)) + "]"
}

// oneLine keeps a message from breaking the picture, or steering the terminal.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
}

func clip(s string, width int) string {
	if width <= 0 || utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width])
}
