package cbt

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/godwit-io/godwit/snapshot"
)

// unknownHandle is no snapshot of any storage.
const unknownHandle = "godwit-snapshot-that-never-was"

// Bench is a scratch volume on the storage that is checked: new, empty, and
// used by nobody else.
type Bench interface {
	// Size of the volume in bytes.
	Size() int64
	// Write makes the writes in order and returns when they are durable.
	Write(ctx context.Context, writes []Write) error
	// Snapshot takes the next snapshot, and returns when it can be asked about.
	Snapshot(ctx context.Context) error
	// Ask asks about the snapshots that were taken. A storage that refuses is an
	// Answer; an error is for who could not ask.
	Ask(ctx context.Context, questions []Question) ([]Answer, error)
}

// Finding is what a check saw. A Fault makes the storage unfit: a copy made by
// its word would not be the volume.
type Finding struct {
	Fault bool   `json:"fault"`
	Text  string `json:"text"`
}

// Report is what came of a check.
type Report struct {
	// Seed repeats the check.
	Seed     uint64    `json:"seed"`
	Findings []Finding `json:"findings"`
}

// Sound says that no finding is a fault.
func (r Report) Sound() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Fault })
}

func (r *Report) fault(format string, args ...any) {
	r.Findings = append(r.Findings, Finding{true, fmt.Sprintf(format, args...)})
}

func (r *Report) note(format string, args ...any) {
	r.Findings = append(r.Findings, Finding{false, fmt.Sprintf(format, args...)})
}

// Check proves a storage's word: it writes known blocks to a scratch volume,
// takes snapshots in between, asks what changed, and compares. The seed chooses
// what is written at random. An error says that the check could not be made.
func Check(ctx context.Context, b Bench, seed uint64) (Report, error) {
	rounds, err := plan(b.Size(), seed)
	if err != nil {
		return Report{}, err
	}
	states := []state{{}}
	for i, writes := range rounds {
		if len(writes) > 0 {
			if err := b.Write(ctx, writes); err != nil {
				return Report{}, fmt.Errorf("write to the scratch volume before snapshot %d: %w", i, err)
			}
		}
		if err := b.Snapshot(ctx); err != nil {
			return Report{}, fmt.Errorf("take snapshot %d of the scratch volume: %w", i, err)
		}
		states = append(states, states[i].after(writes))
	}
	asked := questions(b.Size())
	answers, err := b.Ask(ctx, asked)
	if err != nil {
		return Report{}, fmt.Errorf("ask the storage: %w", err)
	}
	if len(answers) != len(asked) {
		return Report{}, fmt.Errorf("ask the storage: %d answers to %d questions", len(answers), len(asked))
	}
	r := Report{Seed: seed}
	for i, q := range asked {
		was := state{}
		if q.Base >= 0 {
			was = states[q.Base+1]
		}
		j := judge{report: &r, question: q, size: b.Size(), rounds: rounds}
		j.judge(answers[i], was.changed(states[q.Snapshot+1]))
	}
	return r, nil
}

func questions(size int64) []Question {
	middle := size / 2 / sector * sector
	return []Question{
		{Snapshot: 0, Base: NoBase}, {Snapshot: 1, Base: NoBase}, {Snapshot: 3, Base: NoBase}, {Snapshot: 1, Base: NoBase, From: middle},
		{Snapshot: 1, Base: 0}, {Snapshot: 2, Base: 1}, {Snapshot: 3, Base: 2}, {Snapshot: 3, Base: 0},
		{Snapshot: 1, Base: 0, From: middle}, {Snapshot: 1, Base: UnknownBase},
	}
}

// judge holds one answer against what was written.
type judge struct {
	report   *Report
	question Question
	size     int64
	rounds   [][]Write
}

func (j judge) judge(a Answer, changed map[int64]bool) {
	switch {
	case j.question.Base == UnknownBase && a.Reason == "":
		j.report.fault("asked %s, it answers as if it knew that snapshot: a lost base would go unseen", j.question)
	case j.question.Base == UnknownBase:
		j.report.note("asked %s, it refuses, as it should (%s)", j.question, a.Reason)
	case a.Reason == Lied:
		j.report.fault("asked %s, it breaks the specification: %s", j.question, a.Problem)
	case a.Reason != "":
		j.report.fault("asked %s, it does not answer (%s): %s", j.question, a.Reason, a.Problem)
	default:
		j.compare(a, changed)
	}
}

// compare finds sectors that changed and were left out.
func (j judge) compare(a Answer, changed map[int64]bool) {
	if a.Capacity != 0 && a.Capacity < j.size {
		j.report.fault("asked %s, it tells of a volume of %d bytes, and there are %d", j.question, a.Capacity, j.size)
	}
	var missed []int64
	due := 0
	for at := range changed {
		if at < j.question.From {
			continue
		}
		due++
		if !within(a.Extents, at) {
			missed = append(missed, at)
		}
	}
	if len(missed) > 0 {
		slices.Sort(missed)
		j.report.fault("asked %s, it leaves out %d of %d sectors of %d bytes, the first at byte %d (%s)",
			j.question, len(missed), due, sector, missed[0], j.why(missed[0]))
		return
	}
	told := (Map{Extents: a.Extents}).Bytes()
	j.report.note("asked %s, it tells all of %d bytes, in %d", j.question, int64(due)*sector, told)
}

// why says what wrote there, before each snapshot.
func (j judge) why(at int64) string {
	var all []string
	for i, writes := range j.rounds {
		for _, w := range writes {
			if w.Offset <= at && at < w.Offset+w.Length {
				all = append(all, fmt.Sprintf("before snapshot %d: %s", i, w.Why))
			}
		}
	}
	return strings.Join(all, "; ")
}

func within(extents []snapshot.Extent, at int64) bool {
	i, found := slices.BinarySearchFunc(extents, at, func(e snapshot.Extent, at int64) int {
		switch {
		case e.End() <= at:
			return -1
		case e.Offset > at:
			return 1
		}
		return 0
	})
	return found && i < len(extents)
}

// Answers asks the questions of clients, and closes each. Handles are those of
// the snapshots by number; open returns a Client for one of them.
func Answers(ctx context.Context, questions []Question, handles []string, open func(number int) (*Client, error)) ([]Answer, error) {
	all := make([]Answer, 0, len(questions))
	for _, q := range questions {
		a, err := answer(ctx, q, handles, open)
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", q, err)
		}
		all = append(all, a)
	}
	return all, nil
}

func answer(ctx context.Context, q Question, handles []string, open func(int) (*Client, error)) (_ Answer, err error) {
	if q.Snapshot < 0 || q.Snapshot >= len(handles) || q.Base >= len(handles) {
		return Answer{}, errNoSnapshot
	}
	base := ""
	switch {
	case q.Base == UnknownBase:
		base = unknownHandle
	case q.Base >= 0:
		base = handles[q.Base]
	}
	c, err := open(q.Snapshot)
	if err != nil {
		return Answer{}, err
	}
	defer func() {
		if closing := c.Close(); err == nil {
			err = closing
		}
	}()
	m, err := c.Tail(ctx, base, q.From)
	if reason := ReasonOf(err); reason != "" {
		return Answer{Reason: reason, Problem: err.Error()}, nil
	}
	return Answer{Capacity: m.Capacity, Extents: m.Extents}, err
}
