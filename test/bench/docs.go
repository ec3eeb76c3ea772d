package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// writeDocs writes performance.md and its plot.
func (r *result) writeDocs(dir string) error {
	var b strings.Builder
	fmt.Fprintf(&b, `# Performance

What `+"`make bench`"+` found on %s: %s. This page is written by the bench; do not edit it.

The image has %s, half of it allocated, half of that noise and half text. A delta overwrites 1 %% of what is allocated in pieces of 4 to 64 KiB. All programs work on the same files and the same object store (versitygw on the same machine, so that what is compared is the programs); they take turns, in %s, and what counts is the median of the ratios within a round. kopia and restic compress, as Godwit does. What was restored was compared with the source, and is done when it is on the disk: Godwit waits for that itself, and for the others the bench does, in their time. Before each run the disk was synced, and what the program reads and writes dropped from the page cache; before each round the load average of the machine was %s.

%s
## Goals

%s
%s
"raw" moves the very bytes that Godwit stored, or reads and hashes what is allocated, and does nothing else.

## Medians

%s
`, time.Now().UTC().Format("2006-01-02"), r.Machine, sizeText(r.Size), roundsText(r.Rounds), r.loadText(), r.noteText(), r.goalTable(), r.absentText(), r.runTable())
	if len(r.Growth) > 0 {
		fmt.Fprintf(&b, `
## Growth

A delta shall cost what changed, not what the volume holds. Each volume is sparse with %s of data; each delta overwrites %s in pieces of 4 to 64 KiB all over it.

%s
![Time, memory and index bytes of a delta by the size of the volume](performance.svg)

The same pieces lie in more segments the larger the volume is, and each segment that is touched is listed anew, which is growth by what changed. Chunks are eight times as large above 1 TiB ([format.md](format.md)), so that as much more is read and hashed there for the same pieces. What grows with the size itself is the list of segments, 65,536 entries at 16 TiB, which each round reads and writes once.
`, sizeText(growthData), sizeText(growthChanges), r.growthTable())
		if err := writeFile(filepath.Join(dir, "performance.svg"), plot(r.Growth)); err != nil {
			return err
		}
	}
	objects, err := objectsSection(filepath.Join(dir, "performance.md"))
	if err != nil {
		return err
	}
	b.WriteString("\n" + objects + `
## Run it

` + "```" + `
make bench                    # all of it, 3 rounds; 15 minutes a round, and 34 GiB of disk
make bench BENCH_ROUNDS=1 BENCH_FLAGS='-peers kopia,restic,rsync,raw'
make bench BENCH_SIZE=1GiB    # a quick look
make bench-objects            # objects beside kubectl apply; two minutes
make bench-packages           # the Go benchmarks inside the packages
` + "```" + `

` + "`bin/bench.json`" + ` has every single run. Debian's packages restic and rsync must be installed to take part; Velero's uploader needs root, since it reads devices only.
`)
	if err := writeFile(filepath.Join(dir, "performance.md"), b.String()); err != nil {
		return err
	}
	return r.quote(filepath.Join(filepath.Dir(dir), "README.md"))
}

// What stands between these in performance.md is test/bench/objects'.
const (
	objectsBegin = "<!-- objects: written by make bench-objects -->\n"
	objectsEnd   = "<!-- /objects -->\n"
)

// objectsSection is what the page says of objects, as it stands there.
func objectsSection(path string) (string, error) {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("keep what is measured of objects: %w", err)
	}
	_, rest, _ := strings.Cut(string(old), objectsBegin)
	section, _, _ := strings.Cut(rest, objectsEnd)
	return objectsBegin + section + objectsEnd, nil
}

// What stands between these in the README is the bench's.
const (
	quoteBegin = "<!-- bench: written by make bench -->\n"
	quoteEnd   = "<!-- /bench -->\n"
)

// quote puts the goals into the README, unless the result needs a note: a
// README is read without it.
func (r *result) quote(path string) error {
	if r.Note != "" || len(r.Runs) == 0 {
		return nil
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("quote the result: %w", err)
	}
	before, rest, found := strings.Cut(string(old), quoteBegin)
	_, after, closed := strings.Cut(rest, quoteEnd)
	if !found || !closed {
		return fmt.Errorf("quote the result: %s has no place for it: put %s and %s there", path, strings.TrimSpace(quoteBegin), strings.TrimSpace(quoteEnd))
	}
	text := fmt.Sprintf("An image of %s on %s, %s:\n\n%s", sizeText(r.Size), r.Machine, roundsText(r.Rounds), r.goalTable())
	return writeFile(path, before+quoteBegin+text+quoteEnd+after)
}

// Layout of the plot, in pixels.
const (
	plotWidth, plotHeight = 260, 200
	plotLeft, plotTop     = 60, 40
	plotGap               = 90
)

// plot draws three panels over the size of the volume: time, memory, index.
func plot(points []growthPoint) string {
	panels := []struct {
		title  string
		number func(growthPoint) float64
		text   func(float64) string
	}{
		{"time of a delta", func(p growthPoint) float64 { return p.Seconds }, func(v float64) string { return fmt.Sprintf("%.1f s", v) }},
		{"peak memory", func(p growthPoint) float64 { return float64(p.Memory) }, func(v float64) string { return sizeText(int64(v)) }},
		{"indexes and lists sent", func(p growthPoint) float64 { return float64(p.IndexSent) }, func(v float64) string { return sizeText(int64(v)) }},
	}
	var b strings.Builder
	width := len(panels)*(plotWidth+plotGap) + plotLeft
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, plotTop+plotHeight+60)
	b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	for i, panel := range panels {
		values := make([]float64, len(points))
		for n, p := range points {
			values[n] = panel.number(p)
		}
		drawPanel(&b, plotLeft+i*(plotWidth+plotGap), panel.title, points, values, panel.text)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// drawPanel has a logarithmic axis of sizes, and values from zero on.
func drawPanel(b *strings.Builder, left int, title string, points []growthPoint, values []float64, text func(float64) string) {
	least, most, top := math.Inf(1), math.Inf(-1), 0.0
	for i, p := range points {
		least, most, top = min(least, math.Log2(float64(p.Size))), max(most, math.Log2(float64(p.Size))), max(top, values[i])
	}
	x := func(size int64) float64 {
		return float64(left) + 12 + (math.Log2(float64(size))-least)/max(most-least, 1)*(plotWidth-24)
	}
	y := func(v float64) float64 { return plotTop + plotHeight - v/max(top*1.15, 1e-9)*plotHeight }
	fmt.Fprintf(b, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", left, plotTop-14, title)
	fmt.Fprintf(b, `<path d="M%d %d V%d H%d" fill="none" stroke="black"/>`+"\n", left, plotTop, plotTop+plotHeight, left+plotWidth)
	line := make([]string, len(points))
	for i, p := range points {
		line[i] = fmt.Sprintf("%.1f,%.1f", x(p.Size), y(values[i]))
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="#1f6fb2"/>`+"\n", x(p.Size), y(values[i]))
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", x(p.Size), y(values[i])-9, text(values[i]))
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(p.Size), plotTop+plotHeight+18+i%2*14, sizeText(p.Size))
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="#1f6fb2" stroke-width="2"/>`+"\n", strings.Join(line, " "))
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle" fill="#555">size of the volume</text>`+"\n", left+plotWidth/2, plotTop+plotHeight+50)
}

func roundsText(n int) string {
	if n == 1 {
		return "one round"
	}
	return fmt.Sprintf("%d rounds", n)
}
