//go:build rights

package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/godwit-io/godwit/test/scenario"
)

// silence is how long a daemon may keep to itself that it was refused.
const silence = 30 * time.Second

// TestRights takes each right of Godwit's service accounts away when it is first
// asked for, until a daemon's log, an event or a status has told of it, and gives
// it back. A right that nothing asks for, and a refusal that nobody tells of,
// fail the test; so does a request that no right covers.
func TestRights(t *testing.T) {
	g, _ := ground(t)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	t.Cleanup(cancel)
	rights, err := allRights()
	must(t, err)
	exempt, err := kept(g.Root, rights)
	must(t, err)
	book.begin(rights, exempt)
	t.Cleanup(book.end)
	listening, stop := context.WithCancel(ctx)
	t.Cleanup(stop)
	heard := make(chan error, 1)
	go func() { heard <- listen(listening, g) }()

	defer func() {
		stop()
		if err := <-heard; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		for _, f := range book.findings() {
			t.Error(f)
		}
		t.Log(book.summary())
	}()
	s := &stage{t: t, g: g}
	s.play(ctx)
}

// listen gives back rights as soon as somebody tells that they are gone.
func listen(ctx context.Context, g *scenario.Ground) error {
	logs, err := openLogs(ctx, g)
	if err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		for name, f := range logs {
			text, err := io.ReadAll(f)
			if err != nil {
				return err
			}
			book.hear("log of "+name, errorLines(string(text)))
		}
		if len(book.waiting()) > 0 && n%20 == 19 {
			book.hear("an object", said(ctx, g))
		}
		book.giveUp(silence)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// openLogs opens the daemons' logs at their ends.
func openLogs(ctx context.Context, g *scenario.Ground) (map[string]*os.File, error) {
	logs := map[string]*os.File{}
	for _, c := range []scenario.Cluster{g.Source, g.Target} {
		for _, words := range []string{"godwitd controller", "godwitd node"} {
			path, err := g.LogOf(ctx, c, words)
			if err != nil {
				return nil, err
			}
			f, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			if _, err := f.Seek(0, io.SeekEnd); err != nil {
				return nil, err
			}
			logs[words+" of "+c.Name] = f
		}
	}
	return logs, nil
}

// said is what events and statuses say at present.
func said(ctx context.Context, g *scenario.Ground) string {
	var all strings.Builder
	for _, c := range []scenario.Cluster{g.Source, g.Target} {
		for _, kinds := range []string{"events", "migrations.godwit.io,clusterpairs.godwit.io,standbies.godwit.io,volumetransfers.godwit.io,backuplocations.godwit.io"} {
			// What cannot be read now is read the next time.
			text, _ := c.Kubectl(ctx, "get", kinds, "-A", "-o", "json")
			all.WriteString(text)
		}
	}
	return all.String()
}

func (l *ledger) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = false
}

// summary is one line on what was found.
func (l *ledger) summary() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken, kept, slowest := 0, 0, time.Duration(0)
	for _, e := range l.entries {
		switch {
		case e.kept:
			kept++
		case e.told != "":
			taken++
			slowest = max(slowest, e.took)
		}
	}
	return fmt.Sprintf("%d rights: %d taken away and told of, the last to be told after %s; %d by the table", len(l.rights), taken, slowest.Round(time.Millisecond), kept)
}

// errorLines are what a daemon logged and not only as information.
func errorLines(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, `"level":"INFO"`) && !strings.Contains(line, `"level":"DEBUG"`) {
			out.WriteString(line)
		}
	}
	return out.String()
}
