package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/godwit-io/godwit/test/bench/markdown"
)

func (r *result) goalTable() string {
	rows := [][]string{{"operation", "compared", "goal", "found", "met", "processor time"}}
	for _, v := range r.Goals {
		met := "no"
		switch {
		case !v.Measured:
			met = "–"
		case v.Met:
			met = "yes"
		}
		rows = append(rows, []string{string(v.Operation), v.Compared, v.Goal, v.Found, met, v.CPU})
	}
	return markdown.Table(rows)
}

// runTable has the medians of every peer.
func (r *result) runTable() string {
	rows := [][]string{{"operation", "program", "wall", "CPU", "peak memory", "requests", "sent"}}
	seen := map[string]bool{}
	for _, run := range r.Runs {
		key := string(run.Operation) + run.Peer
		if seen[key] {
			continue
		}
		seen[key] = true
		of := func(number func(measure) float64) float64 { return median(r.each(run.Operation, run.Peer, number)) }
		rows = append(rows, []string{
			string(run.Operation), run.Peer,
			fmt.Sprintf("%.2f s", of(func(m measure) float64 { return m.Wall })),
			fmt.Sprintf("%.2f s", of(func(m measure) float64 { return m.CPU })),
			sizeText(int64(of(func(m measure) float64 { return float64(m.Memory) }))),
			fmt.Sprintf("%.0f", of(func(m measure) float64 { return float64(m.Requests) })),
			sizeText(int64(of(func(m measure) float64 { return float64(m.Sent) }))),
		})
	}
	return markdown.Table(rows)
}

func (r *result) growthTable() string {
	if len(r.Growth) == 0 {
		return ""
	}
	rows := [][]string{{"size", "delta", "peak memory", "index and lists sent", "data sent"}}
	for _, p := range r.Growth {
		rows = append(rows, []string{sizeText(p.Size), fmt.Sprintf("%.2f s", p.Seconds), sizeText(p.Memory), sizeText(p.IndexSent), sizeText(p.DataSent)})
	}
	return markdown.Table(rows)
}

// loadText lists the load averages.
func (r *result) loadText() string {
	var all []string
	for _, load := range r.Loads {
		all = append(all, strconv.FormatFloat(load, 'f', 1, 64))
	}
	return strings.Join(all, ", ")
}

// noteText is the note as a paragraph.
func (r *result) noteText() string {
	if r.Note == "" {
		return ""
	}
	return "**" + r.Note + "**\n"
}

// absentText says who did not take part.
func (r *result) absentText() string {
	var names []string
	for name := range r.Absent {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "%s did not take part: %s.\n", peerText(name), strings.TrimSpace(r.Absent[name]))
	}
	return b.String()
}
