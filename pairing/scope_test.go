package pairing

import (
	"errors"
	"strings"
	"testing"
)

func TestClusterNames(t *testing.T) {
	for name, want := range map[string]bool{
		"":                       true,
		"prod cluster-1 (eu)":    true,
		"Werk Köln, 日本 №1 €":     true,
		strings.Repeat("ü", 253): true,
		strings.Repeat("ü", 254): false,
		"two\nlines":             false,
		"tab\there":              false,
		"bell\a":                 false,
		"right to left \u202e":   false,
	} {
		if err := checkClusterName(name); (err == nil) != want || err != nil && !errors.Is(err, ErrRequest) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
