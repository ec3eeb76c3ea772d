package workload

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

func TestTolerable(t *testing.T) {
	failing := func(groups ...string) error {
		failed := make(map[schema.GroupVersion]error)
		for _, group := range groups {
			failed[schema.GroupVersion{Group: group, Version: "v1"}] = errors.New("no endpoints")
		}
		return &discovery.ErrGroupDiscoveryFailed{Groups: failed}
	}
	for name, tc := range map[string]struct {
		err  error
		s    Selection
		want string
	}{
		"nothing failed":           {},
		"readings":                 {err: failing("metrics.k8s.io", "custom.metrics.k8s.io")},
		"a group with data":        {err: failing("metrics.k8s.io", "example.com"), want: "cannot say what example.com/v1 holds"},
		"image streams are data":   {err: failing("image.openshift.io"), want: "image.openshift.io/v1"},
		"the same, excluded":       {err: failing("example.com"), s: Selection{ExcludeResourceTypes: []string{"*.example.com"}}},
		"the server does not talk": {err: errors.New("connection refused"), want: "ask the cluster which kinds it serves: connection refused"},
	} {
		err := tolerable(tc.err, wishOf(tc.s))
		if (err == nil) != (tc.want == "") || (err != nil && !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRulesHaveReasons(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range Rules() {
		if r.Name == "" || r.Reason == "" || seen[r.Name] {
			t.Errorf("%+v lacks a reason, or comes twice", r)
		}
		seen[r.Name] = true
	}
}
