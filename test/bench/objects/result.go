package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/godwit-io/godwit/test/bench/markdown"
)

const (
	godwitName  = "godwit"
	kubectlName = "kubectl"
)

// The goals, for 10,000 objects of 50 namespaces.
const (
	mostSecondsFirst  = 90
	mostSecondsSecond = 20
	mostMemory        = 300 << 20
)

// measured is what one run cost.
type measured struct {
	Program string
	Round   int
	// Wall and CPU are in seconds, Memory is the largest resident set in bytes.
	Wall, CPU float64
	Memory    int64
	// Writes are counted by the API server.
	Writes int64
	// Said is how Godwit's time was spent.
	Said string
}

// result is what was found.
type result struct {
	Objects, Namespaces int
	Load, Note          string
	Runs                []measured
}

func (r result) of(program string, round int) measured {
	for _, m := range r.Runs {
		if m.Program == program && m.Round == round {
			return m
		}
	}
	return measured{}
}

func (r result) goalTable() string {
	first, second := r.of(godwitName, 1), r.of(godwitName, 2)
	rows := [][]string{{"goal", "wanted", "found", "met"}}
	add := func(what, wanted, found string, met bool) {
		rows = append(rows, []string{what, wanted, found, map[bool]string{true: "yes", false: "no"}[met]})
	}
	add("collect, change and apply", fmt.Sprintf("< %d s", mostSecondsFirst), fmt.Sprintf("%.1f s", first.Wall), first.Wall < mostSecondsFirst)
	add("peak memory", "< 300 MiB", mebibytes(max(first.Memory, second.Memory)), max(first.Memory, second.Memory) < mostMemory)
	add("the same again", fmt.Sprintf("< %d s", mostSecondsSecond), fmt.Sprintf("%.1f s", second.Wall), second.Wall < mostSecondsSecond)
	add("the same again: writes", "none", fmt.Sprint(second.Writes), second.Writes == 0)
	return markdown.Table(rows)
}

func (r result) runTable() string {
	rows := [][]string{{"run", "program", "wall", "CPU", "peak memory", "writes"}}
	for _, m := range r.Runs {
		rows = append(rows, []string{
			map[int]string{1: "first", 2: "again"}[m.Round], m.Program, fmt.Sprintf("%.2f s", m.Wall), fmt.Sprintf("%.2f s", m.CPU), mebibytes(m.Memory), fmt.Sprint(m.Writes),
		})
	}
	return markdown.Table(rows)
}

func mebibytes(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

// What stands between these in docs/performance.md is this command's; the bench of
// the engine leaves it as it is.
const (
	sectionBegin = "<!-- objects: written by make bench-objects -->\n"
	sectionEnd   = "<!-- /objects -->\n"
)

func (r result) write(path string, at time.Time) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	before, rest, found := strings.Cut(string(old), sectionBegin)
	_, after, closed := strings.Cut(rest, sectionEnd)
	if !found || !closed {
		return fmt.Errorf("write the result: %s has no place for it: put %s and %s there", path, strings.TrimSpace(sectionBegin), strings.TrimSpace(sectionEnd))
	}
	return os.WriteFile(path, []byte(before+sectionBegin+r.section(at)+sectionEnd+after), 0o644)
}

func (r result) section(at time.Time) string {
	note := ""
	if r.Note != "" {
		note = "**" + r.Note + "**\n\n"
	}
	return fmt.Sprintf(`## Objects

%d objects of %d namespaces, with etcd and a real API server on the same machine, on %s; the load average before was %s. "godwit" collects them, changes them for namespaces of other names, and applies them, with a journal of how to undo each write; "kubectl" is `+"`kubectl apply --server-side`"+` of as many from a file, without a journal. Writes are counted by the API server: requests to change something, also those that then changed nothing, but no dry runs.

%s%s
%s
Of the first run of godwit: %s. Of the second: %s.

`, r.Objects, r.Namespaces, at.UTC().Format("2006-01-02"), r.Load, note, r.goalTable(), r.runTable(), r.of(godwitName, 1).Said, r.of(godwitName, 2).Said)
}
