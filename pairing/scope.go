package pairing

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Scope says which namespaces a token or a pair covers. The zero Scope covers none.
type Scope struct {
	Namespaces []string
	// Admin lets an empty list of namespaces mean all of them, and admits
	// cluster-scoped objects.
	Admin bool
}

// Covers returns an error, an ErrNamespace, that names the namespaces outside
// the scope; nil when there is none.
func (s Scope) Covers(namespaces ...string) error {
	if s.Admin && len(s.Namespaces) == 0 {
		return nil
	}
	var outside []string
	for _, namespace := range namespaces {
		if !slices.Contains(s.Namespaces, namespace) {
			outside = append(outside, namespace)
		}
	}
	if len(outside) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %q (covered: %s): make a pair for it with \"godwitctl generate clusterpair -n NAMESPACE\" on the target",
		ErrNamespace, outside, s)
}

// String lists the namespaces.
func (s Scope) String() string {
	switch {
	case len(s.Namespaces) > 0:
		return strings.Join(s.Namespaces, ", ")
	case s.Admin:
		return "all"
	default:
		return "none"
	}
}

func (s Scope) validate() error {
	if len(s.Namespaces) == 0 && !s.Admin {
		return fmt.Errorf("%w: neither a namespace nor admin", ErrRequest)
	}
	for _, namespace := range s.Namespaces {
		if err := checkNamespace(namespace); err != nil {
			return err
		}
	}
	return nil
}

// Names end up in certificates, object names and logs, so they are checked
// where they enter. A namespace is a DNS label.
var (
	namespaceForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	idForm        = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,126}[a-z0-9])?$`)
)

func checkNamespace(namespace string) error {
	if !namespaceForm.MatchString(namespace) {
		return fmt.Errorf("%w: %q is no namespace", ErrRequest, clip(namespace))
	}
	return nil
}

// checkName is for names of ClusterPairs; old sources send none.
func checkName(name string) error {
	if name != "" && !idForm.MatchString(name) {
		return fmt.Errorf("%w: %q is no name of a ClusterPair", ErrRequest, clip(name))
	}
	return nil
}

func checkID(what, id string) error {
	if !idForm.MatchString(id) {
		return fmt.Errorf("%w: %q is no %s", ErrRequest, clip(id), what)
	}
	return nil
}

// checkClusterName allows letters, digits, punctuation and symbols of any script, and
// spaces. As a regular expression, which is made anew for each of so many places, it costs
// every start of a program 34 ms and 10 MiB.
func checkClusterName(name string) error {
	const most = 253
	strange := func(r rune) bool { return r != ' ' && !unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) }
	if utf8.RuneCountInString(name) > most || strings.ContainsFunc(name, strange) {
		return fmt.Errorf("%w: %q is no cluster name", ErrRequest, clip(name))
	}
	return nil
}

// clip keeps what a stranger sent from filling a log.
func clip(s string) string {
	const limit = 64
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}
