package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// command is a program that a scenario runs.
type command struct {
	dir   string
	env   []string // beside this program's own
	stdin io.Reader
	// shown gets what the program writes, as it writes it; nil keeps it for the error.
	shown io.Writer
}

// run returns the program's standard output. An error carries what the program
// wrote to standard error, since that is where it says what went wrong.
func (c command) run(ctx context.Context, program string, args ...string) ([]byte, error) {
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdin = c.dir, c.stdin
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdout, cmd.Stderr = &out, &problems
	if c.shown != nil {
		cmd.Stdout, cmd.Stderr = c.shown, c.shown
	}
	// A program asked to end may have started others that keep its pipes open.
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(problems.String())
		if said == "" {
			said = tail(out.String(), 2000)
		}
		return out.Bytes(), fmt.Errorf("%s: %w: %s", line(program, args), errors.Join(ctx.Err(), err), said)
	}
	return out.Bytes(), nil
}

// line is how the command is named in an error: short, and without a script in it.
func line(program string, args []string) string {
	words := append([]string{filepath.Base(program)}, args...)
	text, _, _ := strings.Cut(strings.Join(words, " "), "\n")
	if len(text) > 160 {
		text = text[:160] + "…"
	}
	return text
}

func tail(s string, most int) string {
	s = strings.TrimSpace(s)
	if len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	return s
}

// Stories wait no longer than Soon, or Long, for what has to come. Neither is a bound of
// Godwit's: what has to be quick is measured, and a machine may be slow.
const (
	Soon = 3 * time.Minute
	Long = 6 * time.Minute
)

// pollEvery is short, since a scenario's time is a person's time.
const pollEvery = 250 * time.Millisecond

// Await asks until it is told yes. The error of one that waited too long says
// what was seen last.
func Await(ctx context.Context, patience time.Duration, what string, ask func(context.Context) (done bool, seen string, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	last := "nothing"
	for {
		done, seen, err := ask(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			return fmt.Errorf("wait for %s: %w", what, err)
		case done && err == nil:
			return nil
		case seen != "" && err == nil:
			last = seen
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w after %s; last seen: %s", what, ctx.Err(), patience, last)
		case <-tick.C:
		}
	}
}
