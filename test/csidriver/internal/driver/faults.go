package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fault spoils the calls of one method.
type fault struct {
	line   string
	method string
	// from and to are the first and last call to fail, counted from one; from
	// zero fails none, to zero has no end.
	from, to int
	after    bool
	delay    time.Duration
	// cut ends a stream when it has sent that many messages; negative: never.
	cut  int
	code codes.Code
	// lie is told by the streams of changed blocks, see lies.
	lie string
	// lostBase is a snapshot that GetMetadataDelta does not find, or "*".
	lostBase string
	// of is a pattern, as path.Match has them: only calls about volumes whose
	// claim is in such a namespace are spoiled. Empty is every call.
	of string
}

// concerns tells whether the fault is about volumes of that namespace, which is
// empty where it is not known.
func (f *fault) concerns(namespace string) bool {
	if f.of == "" {
		return true
	}
	match, err := path.Match(f.of, namespace)
	return match && err == nil
}

// faults are the ones of the command line and those of the faults file, which
// is read at each call. Calls are counted from when the line appeared.
type faults struct {
	fixed []fault
	file  string

	mu    sync.Mutex
	calls map[string]int
}

func newFaults(fixed []fault, file string) *faults {
	return &faults{fixed: fixed, file: file, calls: map[string]int{}}
}

func parseFaults(text string) ([]fault, error) {
	var all []fault
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == ';' }) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		f, err := parseFault(line)
		if err != nil {
			return nil, fmt.Errorf("fault %q: %w", line, err)
		}
		all = append(all, f)
	}
	return all, nil
}

func parseFault(line string) (fault, error) {
	words := strings.Fields(line)
	f := fault{line: line, method: words[0], cut: -1, code: codes.Unavailable}
	if name, id, ok := strings.Cut(words[0], "="); name == "lose-base" {
		f.method, f.lostBase = "", "*"
		if ok {
			f.lostBase = id
		}
	} else if len(words) == 1 {
		return f, errors.New("say what to do: fail=N, delay=3s, cut=N, lie=omit")
	}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		if err := f.set(key, value); err != nil {
			return f, fmt.Errorf("%s: %w", word, err)
		}
	}
	return f, nil
}

func (f *fault) set(key, value string) (err error) {
	switch key {
	case "fail":
		return f.setFail(value)
	case "delay":
		f.delay, err = time.ParseDuration(value)
	case "cut":
		f.cut, err = strconv.Atoi(value)
	case "after":
		f.after = true
	case "lie":
		f.lie = value
		if !slices.Contains(lies(), value) {
			err = fmt.Errorf("no such lie: use one of %s", strings.Join(lies(), ", "))
		}
	case "code":
		err = f.code.UnmarshalJSON([]byte(strconv.Quote(value)))
	case "of":
		f.of = value
		_, err = path.Match(value, "")
	default:
		err = errors.New("not known: use fail, delay, cut, lie, after, code or of")
	}
	return err
}

// setFail reads N, N-M, N- or *.
func (f *fault) setFail(value string) (err error) {
	if value == "*" {
		value = "1-"
	}
	first, last, ranged := strings.Cut(value, "-")
	if f.from, err = strconv.Atoi(first); err != nil {
		return err
	}
	f.to = f.from
	if ranged {
		f.to = 0
		if last != "" {
			f.to, err = strconv.Atoi(last)
		}
	}
	return err
}

func (f *fault) hits(call int) bool {
	return f.from > 0 && call >= f.from && (f.to == 0 || call <= f.to)
}

// current reads the faults file; one that is not there holds no faults.
func (fs *faults) current() ([]fault, error) {
	b, err := os.ReadFile(fs.file)
	if errors.Is(err, os.ErrNotExist) {
		return fs.fixed, nil
	}
	if err != nil {
		return nil, fmt.Errorf("faults file: %w", err)
	}
	more, err := parseFaults(string(b))
	if err != nil {
		return nil, fmt.Errorf("faults file %s: %w", fs.file, err)
	}
	return append(append([]fault(nil), fs.fixed...), more...), nil
}

// struck is a fault with the number of the call that it meets.
type struck struct {
	fault
	call int
}

// strike counts a call about a volume of the namespace and returns the faults
// that are set on its method.
func (fs *faults) strike(method, namespace string) ([]struck, error) {
	all, err := fs.current()
	if err != nil {
		return nil, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	counts := map[string]int{}
	var hit []struck
	for _, f := range all {
		counts[f.line] = fs.calls[f.line]
		if f.method == method && f.concerns(namespace) {
			counts[f.line]++
			hit = append(hit, struck{fault: f, call: counts[f.line]})
		}
	}
	// Lines that went lose their count.
	fs.calls = counts
	return hit, nil
}

// baseLost tells whether a snapshot of a volume of the namespace is to be
// missing as a base.
func (fs *faults) baseLost(snapshot, namespace string) (bool, error) {
	all, err := fs.current()
	if err != nil {
		return false, err
	}
	for _, f := range all {
		if (f.lostBase == "*" || (f.lostBase != "" && f.lostBase == snapshot)) && f.concerns(namespace) {
			return true, nil
		}
	}
	return false, nil
}

func (s *struck) err() error {
	return status.Errorf(s.code, "told to fail by the fault %q, at call %d", s.line, s.call)
}

// before waits and fails as the faults say.
func before(ctx context.Context, hit []struck) error {
	for _, s := range hit {
		if s.delay > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(s.delay):
			}
		}
		if !s.after && s.cut < 0 && s.lie == "" && s.hits(s.call) {
			return s.err()
		}
	}
	return nil
}

// after fails calls that were done, as if the answer had been lost.
func after(hit []struck) error {
	for _, s := range hit {
		if s.after && s.hits(s.call) {
			return s.err()
		}
	}
	return nil
}
