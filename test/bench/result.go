package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// result is what the bench found; it is also the JSON that it writes.
type result struct {
	Machine string `json:"machine"`
	Size    int64  `json:"size"`
	Rounds  int    `json:"rounds"`
	// Loads are the machine's load averages before each round.
	Loads  []float64         `json:"loads,omitempty"`
	Note   string            `json:"note,omitempty"`
	Absent map[string]string `json:"absent,omitempty"`
	Runs   []runOf           `json:"runs"`
	Goals  []verdict         `json:"goals"`
	Growth []growthPoint     `json:"growth,omitempty"`
}

// runOf is what one run cost.
type runOf struct {
	Round     int       `json:"round"`
	Operation operation `json:"operation"`
	Peer      string    `json:"peer"`
	measure
}

func describeMachine() string {
	model := "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d × %s, %s", runtime.NumCPU(), model, runtime.Version())
}

// loadAverage is how many processes wanted to run, of late.
func loadAverage() (float64, error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, fmt.Errorf("read the load average: %w", err)
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0, fmt.Errorf("read the load average: %w", err)
	}
	return load, nil
}

// Metrics that goals are about.
const (
	wallTime     = "time"
	cpuTime      = "processor time"
	sentBytes    = "bytes sent"
	requestCount = "requests"
)

func (m measure) metric(name string) float64 {
	switch name {
	case sentBytes:
		return float64(m.Sent)
	case requestCount:
		return float64(m.Requests)
	case cpuTime:
		return m.CPU
	}
	return m.Wall
}

// goal is a bound on Godwit's metric, as a ratio to a peer's in the same round.
type goal struct {
	operation operation
	peer      string
	metric    string
	most      float64
}

func goals() []goal {
	return []goal{
		{fullUpload, kopiaName, wallTime, 0.35},
		{fullUpload, resticName, wallTime, 0.45},
		{fullUpload, veleroName, wallTime, 0.30},
		{fullUpload, rawName, wallTime, 1.3},
		{deltaKnown, kopiaName, wallTime, 0.04},
		{deltaKnown, resticName, wallTime, 0.07},
		{deltaKnown, kopiaName, sentBytes, 0.10},
		{deltaKnown, resticName, sentBytes, 0.15},
		{deltaScan, kopiaName, wallTime, 0.5},
		{restore, kopiaName, wallTime, 0.30},
		{restore, resticName, wallTime, 0.60},
		{restore, kopiaName, requestCount, 0.35},
		{apply, kopiaName, wallTime, 0.03},
		{apply, rsyncName, wallTime, 0.08},
		{verify, rawName, wallTime, 1.5},
		{reconcile, rawName, wallTime, 1.5},
	}
}

// verdict is what became of a goal.
type verdict struct {
	Operation operation `json:"operation"`
	Compared  string    `json:"compared"`
	Goal      string    `json:"goal"`
	Found     string    `json:"found"`
	// CPU is the ratio of processor time, which other work on the machine
	// disturbs less than it does the time that passes.
	CPU string `json:"cpu"`
	Met bool   `json:"met"`
	// Measured is false where there was nothing to compare with.
	Measured bool `json:"measured"`
}

const (
	mostMemory       = 256 * mib
	mostSecondsMore  = 1.0
	memoryOfTransfer = operation("peak memory of one transfer")
)

// judge holds the runs against the goals.
func (r *result) judge() []verdict {
	var all []verdict
	for _, g := range goals() {
		v := verdict{Operation: g.operation, Compared: g.metric + ", " + peerText(g.peer), Goal: fmt.Sprintf("≤ %g ×", g.most), Found: "not measured"}
		if ratio := median(r.ratios(g)); !math.IsNaN(ratio) {
			v.Found, v.Met, v.Measured = ratioText(ratio), ratio <= g.most, true
		}
		if g.metric == wallTime && v.Measured {
			g.metric = cpuTime
			v.CPU = ratioText(median(r.ratios(g)))
		}
		all = append(all, v)
	}
	return append(all, r.judgeUnchanged()...)
}

func (r *result) judgeUnchanged() []verdict {
	more := median(r.each(unchanged, godwitName, func(m measure) float64 { return m.Wall })) -
		median(r.each(opening, godwitName, func(m measure) float64 { return m.Wall }))
	reads := r.each(unchanged, godwitName, func(m measure) float64 { return float64(m.DataReads) })
	memory := 0.0
	for _, run := range r.Runs {
		if run.Peer == godwitName {
			memory = max(memory, float64(run.Memory))
		}
	}
	for _, p := range r.Growth {
		memory = max(memory, float64(p.Memory))
	}
	verdicts := []verdict{
		{Operation: unchanged, Compared: "time beyond opening", Goal: "< 1 s", Found: "not measured"},
		{Operation: unchanged, Compared: "requests for data", Goal: "none", Found: "not measured"},
		{Operation: memoryOfTransfer, Compared: "largest of all runs, growth included", Goal: "≤ 256 MiB", Found: "not measured"},
	}
	if len(reads) > 0 {
		verdicts[0].Found, verdicts[0].Met, verdicts[0].Measured = fmt.Sprintf("%.2f s", more), more < mostSecondsMore, true
		most := slices.Max(reads)
		verdicts[1].Found, verdicts[1].Met, verdicts[1].Measured = fmt.Sprintf("%.0f", most), most == 0, true
	}
	if memory > 0 {
		verdicts[2].Found, verdicts[2].Met, verdicts[2].Measured = sizeText(int64(memory)), memory <= mostMemory, true
	}
	return verdicts
}

func peerText(name string) string {
	switch name {
	case kopiaName:
		return "kopia CLI"
	case rsyncName:
		return "rsync --inplace"
	case veleroName:
		return "Velero's block uploader"
	case rawName:
		return "raw (PUT, or read and hash)"
	}
	return name
}

func ratioText(ratio float64) string { return fmt.Sprintf("%.3g ×", ratio) }

// each gives a number for each run of a peer's operation.
func (r *result) each(op operation, peer string, number func(measure) float64) []float64 {
	var all []float64
	for _, run := range r.Runs {
		if run.Operation == op && run.Peer == peer {
			all = append(all, number(run.measure))
		}
	}
	return all
}

// ratios are those of Godwit to the peer, round by round.
func (r *result) ratios(g goal) []float64 {
	number := func(m measure) float64 { return m.metric(g.metric) }
	ours, theirs := r.each(g.operation, godwitName, number), r.each(g.operation, g.peer, number)
	var all []float64
	for i := range min(len(ours), len(theirs)) {
		if theirs[i] > 0 {
			all = append(all, ours[i]/theirs[i])
		}
	}
	return all
}

// write prints the tables, and writes the files that the flags name.
func (r *result) write(s settings) error {
	r.Goals = r.judge()
	fmt.Print("\n" + r.goalTable() + "\n" + r.runTable() + "\n" + r.growthTable())
	if s.json != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the result: %w", err)
		}
		if err := writeFile(s.json, string(text)+"\n"); err != nil {
			return err
		}
	}
	if s.docs != "" {
		return r.writeDocs(s.docs)
	}
	return nil
}

func writeFile(path, content string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
