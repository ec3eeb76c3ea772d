package cli

import (
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// testLimits bounds transfers, changes one bound after the other, and takes
// them away.
func (c *cluster) testLimits(t *testing.T) {
	t.Helper()
	for line, says := range map[string]string{
		"limit transfers":                         "say what to change",
		"limit transfers --pause --resume":        "--pause or --resume",
		"limit transfers --store-rate fast":       "--store-rate fast is no rate",
		"limit transfers --volume-rate 0":         "--volume-rate 0 is no rate",
		"limit transfers --store-requests -3":     "--store-requests -3 is no rate",
		"limit transfers --volume-requests 1.5":   "--volume-requests 1.5 is no rate",
		"limit transfers default --store-rate 1M": "takes no name",
	} {
		c.bad(t, line, says)
	}
	var list api.TransferLimitList
	if err := c.client.List(t.Context(), &list); err != nil || len(list.Items) > 0 {
		t.Fatalf("bad input left %v, %v", list.Items, err)
	}
	c.good(t, "limit transfers --store-rate 20Mi --volume-requests 7")
	if got := c.good(t, "limit transfers --pause"); !strings.Contains(got, "store paused, volumes not bound, 7 requests a second") {
		t.Errorf("it says %q", got)
	}
	c.good(t, "limit transfers --resume --store-requests 9")
	if got := c.good(t, "get transferlimits"); !strings.Contains(got, "20Mi/s") || !strings.Contains(got, "9/s") || !strings.Contains(got, "7/s") || !strings.Contains(got, "false") {
		t.Errorf("it shows %q", got)
	}
	c.good(t, "limit transfers --store-rate none --store-requests none --volume-requests none")
	l := &api.TransferLimit{}
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: "godwit-system", Name: "default"}, l); err != nil {
		t.Fatal(err)
	}
	if l.Spec.Store.BytesPerSecond != nil || l.Spec.Store.RequestsPerSecond+l.Spec.Volumes.RequestsPerSecond > 0 || l.Spec.Store.Paused {
		t.Errorf("it left %+v", l.Spec)
	}
	// The API server refuses what no node could do.
	for what, spec := range map[string]api.TransferLimitSpec{
		"25:00":             {Windows: []api.TransferWindow{{From: "01:00", To: "25:00"}}},
		"only the Transfer": {},
	} {
		bad := &api.TransferLimit{Spec: spec}
		bad.Namespace, bad.Name = "godwit-system", "other"
		if err := c.client.Create(t.Context(), bad); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("TransferLimit with %s: %v", what, err)
		}
	}
}
