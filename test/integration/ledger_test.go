package integration

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/godwit-io/godwit/test/scenario"
)

// right is a verb on a kind of object that one of Godwit's roles gives.
type right struct {
	account string
	// namespace is empty for every namespace.
	namespace, group, resource, verb string
	names                            []string
	// tier is 0 for what is always given, 1 for what the chart's values turn on,
	// and 2 for every kind of object: a right is needed where no other of its tier
	// or a lower one covers a request.
	tier int
}

const everyKindTier = 2

func (r right) String() string {
	what := r.resource
	if r.group != "" {
		what += "." + r.group
	}
	if r.namespace != "" {
		what += " in " + r.namespace
	}
	return strings.TrimPrefix(r.account, "godwit-") + ": " + r.verb + " " + what
}

func (r right) covers(a scenario.Request) bool {
	is := func(given, asked string) bool { return given == "*" || given == asked }
	return r.account == a.Account && r.verb == a.Verb && is(r.group, a.Group) && is(r.resource, a.Resource) &&
		(r.namespace == "" || r.namespace == a.Namespace) && (len(r.names) == 0 || slices.Contains(r.names, a.Name))
}

// rightsOf are the rights in a generated file.
func rightsOf(file, account string, tier int) ([]right, error) {
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "chart", "files", "rbac", file))
	if err != nil {
		return nil, err
	}
	var all []right
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		var role struct {
			Metadata struct{ Namespace string }
			Rules    []rbacv1.PolicyRule
		}
		if err := yaml.Unmarshal(document, &role); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, rule := range role.Rules {
			all = append(all, spread(rule, right{account: account, namespace: role.Metadata.Namespace, tier: tier})...)
		}
	}
}

// spread is each right of a rule.
func spread(rule rbacv1.PolicyRule, as right) []right {
	var all []right
	as.names = rule.ResourceNames
	for _, as.group = range rule.APIGroups {
		for _, as.resource = range rule.Resources {
			for _, as.verb = range rule.Verbs {
				one := as
				if one.group == "*" {
					one.tier = everyKindTier
				}
				all = append(all, one)
			}
		}
	}
	return all
}

// ledger takes each right away when it is first asked for, and gives it back once
// that was told.
type ledger struct {
	mu      sync.Mutex
	open    bool
	rights  []right
	entries []entry
	// strays are requests that no right covers.
	strays map[string]bool
}

type entry struct {
	// kept are never taken away: the table says why.
	kept, mayBe bool
	// refused is when it was first asked for, and by what.
	refused time.Time
	request scenario.Request
	// told says where, silent that nobody did.
	told   string
	took   time.Duration
	silent bool
}

// begin takes rights away from now on.
func (l *ledger) begin(rights []right, kept map[int]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rights, l.entries, l.strays, l.open = rights, make([]entry, len(rights)), map[string]bool{}, true
	for i, mayBe := range kept {
		l.entries[i].kept, l.entries[i].mayBe = true, mayBe
	}
}

func mark(i int) string { return fmt.Sprintf("right-%03d", i) }

// refuse is scenario.Refuse.
func (l *ledger) refuse(a scenario.Request) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		return ""
	}
	i, covered := l.needed(a)
	if !covered {
		l.strays[fmt.Sprintf("%s: %s %s.%s in %q", a.Account, a.Verb, a.Resource, a.Group, a.Namespace)] = true
	}
	if i < 0 {
		return ""
	}
	e := &l.entries[i]
	if e.refused.IsZero() {
		e.refused, e.request = time.Now(), a
	}
	if e.kept || e.told != "" || e.silent {
		return ""
	}
	return mark(i) + " is taken away"
}

// needed is the one right without which the request would be refused; none where
// two would do, or none does.
func (l *ledger) needed(a scenario.Request) (i int, covered bool) {
	for tier := range everyKindTier + 1 {
		found, count := -1, 0
		for i, r := range l.rights {
			if r.tier == tier && r.covers(a) {
				found, count = i, count+1
			}
		}
		if count > 0 {
			if count > 1 {
				found = -1
			}
			return found, true
		}
	}
	return -1, false
}

// waiting are the rights that were taken away, and of which nobody has told yet.
func (l *ledger) waiting() map[int]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[int]time.Time{}
	for i, e := range l.entries {
		if !e.kept && !e.refused.IsZero() && e.told == "" && !e.silent {
			all[i] = e.refused
		}
	}
	return all
}

// hear gives back the rights that the text tells of.
func (l *ledger) hear(where, text string) {
	for i := range l.waiting() {
		if !strings.Contains(text, mark(i)) {
			continue
		}
		l.mu.Lock()
		l.entries[i].told, l.entries[i].took = where, time.Since(l.entries[i].refused)
		l.mu.Unlock()
	}
}

// giveUp gives back what nobody told of for so long.
func (l *ledger) giveUp(after time.Duration) {
	for i, since := range l.waiting() {
		if time.Since(since) > after {
			l.mu.Lock()
			l.entries[i].silent = true
			l.mu.Unlock()
		}
	}
}

// findings are what is wrong: rights that nothing needs, and refusals that nobody
// told of.
func (l *ledger) findings() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for i, r := range l.rights {
		e := l.entries[i]
		switch asked := !e.refused.IsZero(); {
		case e.kept && asked && !e.mayBe:
			all = append(all, fmt.Sprintf("%s: is in the table of rights that this cannot reach, and was asked for: take it out of the table", r))
		case e.kept:
		case !asked:
			all = append(all, fmt.Sprintf("%s: nothing asked for it that no other right covers: take it out of the marker beside the code, or name its use in the table", r))
		case e.told == "":
			all = append(all, fmt.Sprintf("%s: taken away, and nobody told of it: %+v", r, e.request))
		}
	}
	for s := range l.strays {
		all = append(all, s+": asked for, and no right covers it")
	}
	slices.Sort(all)
	return all
}

// TestLedger: a right that nothing asks for, one that another covers, and one of
// which nobody tells are each found.
func TestLedger(t *testing.T) {
	t.Parallel()
	rights := []right{
		{account: "a", resource: "pods", verb: "get"},
		{account: "a", resource: "pods", verb: "delete"},
		{account: "a", resource: "secrets", verb: "get"},
		{account: "a", namespace: "home", resource: "secrets", verb: "get"},
		{account: "a", group: "*", resource: "*", verb: "get", tier: everyKindTier},
		{account: "a", group: "*", resource: "*", verb: "patch", tier: everyKindTier},
		{account: "a", resource: "nodes", verb: "get"},
	}
	l := &ledger{}
	l.begin(rights, map[int]bool{6: false})
	ask := func(resource, namespace, verb string) string {
		return l.refuse(scenario.Request{Account: "a", Resource: resource, Namespace: namespace, Verb: verb})
	}
	if why := ask("pods", "x", "get"); why != mark(0)+" is taken away" {
		t.Errorf("a right in use is not taken away: %q", why)
	}
	l.hear("log", "no word of it")
	if ask("pods", "x", "get") == "" {
		t.Error("a right is given back, and nobody told")
	}
	l.hear("log", "pods is forbidden: "+mark(0)+" is taken away")
	if why := ask("pods", "x", "get"); why != "" {
		t.Errorf("a right is not given back: %q", why)
	}
	if ask("secrets", "home", "get") != "" || ask("secrets", "x", "get") == "" || ask("widgets", "x", "get") == "" {
		t.Error("of several rights that cover a request the wrong ones are taken away")
	}
	l.giveUp(0)
	ask("nodes", "", "get")
	ask("nodes", "", "list")
	got := strings.Join(l.findings(), "\n")
	for _, want := range []string{
		"a: delete pods: nothing asked for it", "a: get secrets in home: nothing asked for it", "a: patch *.*: nothing asked for it",
		"a: get secrets: taken away, and nobody told", "a: get *.*: taken away, and nobody told", "a: get nodes: is in the table", "a: list nodes. in \"\": asked for, and no right covers it",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "\n") + 1; n != 7 {
		t.Errorf("%d findings:\n%s", n, got)
	}
}
