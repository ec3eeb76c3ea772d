package node

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// TestAttemptsAreCounted tells attempts that are tried again from those that are not.
func TestAttemptsAreCounted(t *testing.T) {
	t.Parallel()
	registry, paused := prometheus.NewPedanticRegistry(), false
	m, err := newMetrics(registry, func() bool { return paused })
	if err != nil {
		t.Fatal(err)
	}
	for phase, n := range map[api.TransferPhase]int{api.TransferRunning: 2, api.TransferFailed: 1, api.TransferSucceeded: 3} {
		for range n {
			m.ended(&api.VolumeTransfer{Spec: api.VolumeTransferSpec{Direction: api.Apply}, Status: api.VolumeTransferStatus{Phase: phase}})
		}
	}
	paused = true
	want := `
# HELP godwit_transfer_attempts_total Attempts of transfers, by direction and by how they ended: succeeded, again for one that is tried again, failed for the last one.
# TYPE godwit_transfer_attempts_total counter
godwit_transfer_attempts_total{direction="Apply",result="again"} 2
godwit_transfer_attempts_total{direction="Apply",result="failed"} 1
godwit_transfer_attempts_total{direction="Apply",result="succeeded"} 3
# HELP godwit_transfers_paused 1 while the TransferLimit lets nothing pass on this node.
# TYPE godwit_transfers_paused gauge
godwit_transfers_paused 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	var none *metrics
	none.ended(&api.VolumeTransfer{})
}
