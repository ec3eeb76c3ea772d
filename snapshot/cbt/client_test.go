package cbt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/snapshot"
)

// script is a wire that gives one stream after the other.
type script struct {
	streams []scripted
	asked   []question
	closed  bool
}

// scripted gives its messages and then its error; nil is the end.
type scripted struct {
	messages []message
	err      error
	hang     bool
}

func (s *script) ask(ctx context.Context, q question) (stream, error) {
	s.asked = append(s.asked, q)
	next := scripted{err: status.Error(codes.Unavailable, "the script is over")}
	if len(s.streams) > 0 {
		next, s.streams = s.streams[0], s.streams[1:]
	}
	return &played{ctx: ctx, scripted: next}, nil
}

func (s *script) close() error {
	s.closed = true
	return nil
}

type played struct {
	ctx context.Context
	scripted
}

func (p *played) recv() (message, error) {
	if len(p.messages) > 0 {
		m := p.messages[0]
		p.messages = p.messages[1:]
		return m, nil
	}
	if p.hang {
		<-p.ctx.Done()
		return message{}, status.FromContextError(p.ctx.Err()).Err()
	}
	if p.err != nil {
		return message{}, p.err
	}
	return message{}, io.EOF
}

// play returns a Client of the script that rests for no time.
func play(streams ...scripted) (*Client, *script) {
	s := &script{streams: streams}
	c := newClient(s, "snapshot s2")
	c.wait = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return c, s
}

var errBroken = status.Error(codes.Unavailable, "connection reset")

func TestBrokenAnswerIsTakenUpAgain(t *testing.T) {
	c, s := play(
		scripted{messages: []message{variable(mib, ext(0, 4*kib), ext(64*kib, 4*kib))}, err: errBroken},
		scripted{err: errBroken}, // nothing new
		// The driver may begin before the place that was asked for.
		scripted{messages: []message{variable(mib, ext(60*kib, 16*kib)), variable(mib, ext(512*kib, kib))}, err: status.Error(codes.DeadlineExceeded, "too long")},
		scripted{messages: []message{variable(mib, ext(512*kib, kib)), variable(mib, ext(mib-4*kib, 4*kib))}},
	)
	m, err := c.Delta(t.Context(), "s1")
	if err != nil {
		t.Fatal(err)
	}
	want := []snapshot.Extent{ext(0, 4*kib), ext(60*kib, 16*kib), ext(512*kib, 4*kib), ext(mib-4*kib, 4*kib)}
	if !slices.Equal(m.Extents, want) || m.Resumed != 3 {
		t.Errorf("%+v, want %v", m, want)
	}
	var from []int64
	for _, q := range s.asked {
		from = append(from, q.from)
		if q.base != "s1" || q.most != batch {
			t.Errorf("asked %+v", q)
		}
	}
	if want := []int64{0, 64 * kib, 64 * kib, 512 * kib}; !slices.Equal(from, want) {
		t.Errorf("asked from %v, want %v", from, want)
	}
	if err := c.Close(); err != nil || !s.closed {
		t.Errorf("closed %t, %v", s.closed, err)
	}
}

func TestWhatBreaksAfterTheLastBlockIsComplete(t *testing.T) {
	c, s := play(scripted{messages: []message{fixed(mib+512, ext(mib, 64*kib))}, err: errBroken})
	if m, err := c.Allocated(t.Context()); err != nil || len(m.Extents) != 1 || len(s.asked) != 1 {
		t.Errorf("%+v, %v after %d questions", m, err, len(s.asked))
	}
}

// TestBreakAfterTheLastBlock has a truthful driver, which has nothing to tell but
// what it told before.
func TestBreakAfterTheLastBlock(t *testing.T) {
	first := scripted{messages: []message{variable(mib, ext(0, 4*kib), ext(64*kib, 16*kib))}, err: errBroken}
	want := []snapshot.Extent{ext(0, 4*kib), ext(64*kib, 16*kib)}
	for name, again := range map[string][]scripted{
		"the same":              {{messages: []message{variable(mib, ext(64*kib, 16*kib))}}},
		"in pieces":             {{messages: []message{variable(mib, ext(64*kib, 4*kib)), variable(mib, ext(68*kib, 12*kib))}}},
		"nothing, and a break":  {{err: errBroken}, {messages: []message{variable(mib, ext(64*kib, 16*kib))}}},
		"a piece, and a break":  {{messages: []message{variable(mib, ext(64*kib, 4*kib))}, err: errBroken}, {messages: []message{variable(mib, ext(64*kib, 16*kib))}}},
		"the same, and a break": {{messages: []message{variable(mib, ext(64*kib, 16*kib))}, err: errBroken}, {messages: []message{variable(mib, ext(64*kib, 16*kib))}}},
	} {
		c, s := play(append([]scripted{first}, again...)...)
		m, err := c.Delta(t.Context(), "s1")
		if err != nil || !slices.Equal(m.Extents, want) || m.Resumed != len(again) {
			t.Errorf("%s: %+v, %v, want %v", name, m, err, want)
		}
		for _, q := range s.asked[1:] {
			if q.from != 64*kib {
				t.Errorf("%s: asked from %d, want the start of the last block", name, q.from)
			}
		}
	}
}

// TestBreakOfBlocksOfOneLength ends in a block that reaches over the volume's end.
func TestBreakOfBlocksOfOneLength(t *testing.T) {
	c, _ := play(
		scripted{messages: []message{fixed(mib+512, ext(0, 64*kib))}, err: errBroken},
		scripted{messages: []message{fixed(mib+512, ext(0, 64*kib), ext(mib, 64*kib))}},
	)
	m, err := c.Allocated(t.Context())
	if want := []snapshot.Extent{ext(0, 64*kib), ext(mib, 512)}; err != nil || !slices.Equal(m.Extents, want) || m.Resumed != 1 {
		t.Errorf("%+v, %v, want %v", m, err, want)
	}
}

// TestTailThatBreaks is asked for from where nothing need be: only what was told
// has to be told again.
func TestTailThatBreaks(t *testing.T) {
	c, s := play(scripted{err: errBroken}, scripted{})
	if m, err := c.Tail(t.Context(), "s1", 512*kib); err != nil || m.Capacity != 0 || len(m.Extents) != 0 || s.asked[1].from != 512*kib {
		t.Errorf("%+v, %v, asked %+v: nothing to tell from there on", m, err, s.asked)
	}
	c, s = play(scripted{messages: []message{variable(mib, ext(600*kib, 4*kib))}, err: errBroken}, scripted{})
	if _, err := c.Tail(t.Context(), "s1", 512*kib); ReasonOf(err) != Lied || s.asked[1].from != 600*kib {
		t.Errorf("%v, asked %+v, want reason Lied", err, s.asked)
	}
}

func TestLiesAfterABreak(t *testing.T) {
	first := scripted{messages: []message{variable(mib, ext(64*kib, 4*kib))}, err: errBroken}
	again := variable(mib, ext(64*kib, 4*kib))
	for name, second := range map[string][]message{
		"begins too early":         {variable(mib, ext(0, 4*kib))},
		"ends where it begins":     {variable(mib, ext(0, 64*kib))},
		"two that begin early":     {variable(mib, ext(60*kib, 16*kib), ext(68*kib, 16*kib))},
		"another size":             {variable(2*mib, ext(64*kib, 4*kib))},
		"another kind":             {fixed(mib, ext(64*kib, 4*kib))},
		"another size after it":    {again, variable(2*mib, ext(128*kib, 4*kib))},
		"nothing at all":           {},
		"no block":                 {variable(mib)},
		"not what was told":        {variable(mib, ext(128*kib, 4*kib))},
		"only behind it":           {variable(mib, ext(68*kib, 4*kib))},
		"only a piece of it":       {variable(mib, ext(64*kib, kib))},
		"only its end":             {variable(mib, ext(66*kib, 4*kib))},
		"with a gap":               {variable(mib, ext(64*kib, kib), ext(66*kib, 4*kib))},
		"twice":                    {again, again},
		"twice, the second longer": {again, variable(mib, ext(66*kib, 4*kib))},
	} {
		c, _ := play(first, scripted{messages: second})
		if m, err := c.Delta(t.Context(), "s1"); ReasonOf(err) != Lied {
			t.Errorf("%s: %+v, %v, want reason Lied", name, m, err)
		}
	}
	c, _ := play(first, scripted{err: errBroken}, scripted{})
	if m, err := c.Delta(t.Context(), "s1"); ReasonOf(err) != Lied {
		t.Errorf("nothing after two breaks: %+v, %v, want reason Lied", m, err)
	}
	c, _ = play(first, scripted{messages: []message{again, variable(mib, ext(128*kib, 4*kib))}, err: errBroken}, scripted{messages: []message{again}})
	if m, err := c.Delta(t.Context(), "s1"); ReasonOf(err) != Lied {
		t.Errorf("what was told before the first break: %+v, %v, want reason Lied", m, err)
	}
}

func TestReasons(t *testing.T) {
	for _, c := range []struct {
		err       error
		delta     bool
		want      Reason
		questions int
	}{
		{status.Error(codes.FailedPrecondition, "off"), true, NotTracked, 1},
		{status.Error(codes.FailedPrecondition, "off"), false, NotTracked, 1},
		{status.Error(codes.NotFound, "gone"), true, BaseGone, 1},
		{status.Error(codes.NotFound, "gone"), false, SnapshotGone, 1},
		{status.Error(codes.OutOfRange, "offset"), true, OutOfRange, 1},
		{status.Error(codes.Unimplemented, "what"), true, NotServed, 1},
		{status.Error(codes.InvalidArgument, "two volumes"), true, Refused, 1},
		{status.Error(codes.Unauthenticated, "who"), true, Denied, 1},
		{status.Error(codes.PermissionDenied, "no"), false, Denied, 1},
		{status.Error(codes.Unavailable, "down"), false, Unreachable, patience + 1},
		{errors.New("no token"), false, Unreachable, patience + 1},
	} {
		var streams []scripted
		for range patience + 1 {
			streams = append(streams, scripted{err: c.err})
		}
		client, s := play(streams...)
		var err error
		if c.delta {
			_, err = client.Delta(t.Context(), "s1")
		} else {
			_, err = client.Allocated(t.Context())
		}
		if ReasonOf(err) != c.want || len(s.asked) != c.questions || !errors.Is(err, c.err) {
			t.Errorf("%v: error %v after %d questions, want reason %s after %d", c.err, err, len(s.asked), c.want, c.questions)
		}
		if isBase := errors.Is(err, snapshot.ErrNoBase); isBase != (c.want == BaseGone) {
			t.Errorf("%v: is ErrNoBase: %t", err, isBase)
		}
		text := fmt.Sprint(err)
		if !strings.HasPrefix(text, "ask the storage for ") || !strings.Contains(text, "snapshot s2") || !strings.Contains(text, c.want.remedy()) {
			t.Errorf("%q does not say what was asked and what to do", text)
		}
	}
}

func TestAnswerThatGetsNoFurther(t *testing.T) {
	streams := []scripted{{messages: []message{variable(mib, ext(0, 4*kib))}, err: errBroken}}
	for range 20 {
		streams = append(streams, scripted{messages: []message{variable(mib)}, err: errBroken})
	}
	c, s := play(streams...)
	if _, err := c.Delta(t.Context(), "s1"); ReasonOf(err) != Broken || !strings.Contains(err.Error(), "given up at byte 4096") {
		t.Errorf("%v, want reason Broken", err)
	}
	if len(s.asked) > patience+2 {
		t.Errorf("%d questions", len(s.asked))
	}
}

func TestNoBaseNamed(t *testing.T) {
	c, s := play()
	if _, err := c.Delta(t.Context(), ""); ReasonOf(err) != Refused || len(s.asked) != 0 {
		t.Errorf("%v after %d questions: without a base the answer would be all that is allocated", err, len(s.asked))
	}
}

func TestContextEndsTheQuestion(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	c, _ := play(scripted{hang: true})
	stopped := errors.New("the transfer was deleted")
	cancel(stopped)
	if _, err := c.Allocated(ctx); !errors.Is(err, stopped) || ReasonOf(err) != "" {
		t.Errorf("%v: the caller's own end is no fault of the storage", err)
	}
}

func TestSilentStreamIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := play(scripted{messages: []message{variable(mib, ext(0, 4*kib))}, hang: true}, scripted{messages: []message{variable(mib, ext(0, 4*kib), ext(8*kib, 4*kib))}})
		began := time.Now()
		m, err := c.Allocated(t.Context())
		if err != nil || len(m.Extents) != 2 || len(s.asked) != 2 {
			t.Errorf("%+v, %v after %d questions", m, err, len(s.asked))
		}
		if took := time.Since(began); took != silence {
			t.Errorf("it took %s, want %s", took, silence)
		}
	})
}

func TestPausesGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := play()
		c.wait = wait
		began := time.Now()
		if _, err := c.Allocated(t.Context()); ReasonOf(err) != Unreachable {
			t.Error(err)
		}
		if took := time.Since(began); took != 31*firstPause {
			t.Errorf("it took %s", took)
		}
	})
}
