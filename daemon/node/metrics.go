package node

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// metrics counts uploads by the method that read them, and attempts by their end.
type metrics struct {
	uploads  *prometheus.CounterVec
	read     *prometheus.CounterVec
	attempts *prometheus.CounterVec
}

func newMetrics(to prometheus.Registerer, paused func() bool) (*metrics, error) {
	if to == nil {
		return nil, nil
	}
	m := &metrics{
		uploads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "godwit_uploads_total",
			Help: "Volumes that were read into an image, by method; missed says why a better method was not possible, and is empty where none was to be expected.",
		}, []string{"method", "missed"}),
		read: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "godwit_upload_read_bytes_total",
			Help: "Bytes that were read of volumes for images, by method.",
		}, []string{"method"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "godwit_transfer_attempts_total",
			Help: "Attempts of transfers, by direction and by how they ended: succeeded, again for one that is tried again, failed for the last one.",
		}, []string{"direction", "result"}),
	}
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "godwit_transfers_paused", Help: "1 while the TransferLimit lets nothing pass on this node.",
	}, func() float64 {
		if paused() {
			return 1
		}
		return 0
	})
	for _, c := range []prometheus.Collector{m.uploads, m.read, m.attempts, held} {
		if err := to.Register(c); err != nil {
			return nil, fmt.Errorf("set up the node's metrics: %w", err)
		}
	}
	return m, nil
}

// ended counts an attempt by what its end left in the status.
func (m *metrics) ended(t *api.VolumeTransfer) {
	if m == nil {
		return
	}
	result := "again"
	switch t.Status.Phase {
	case api.TransferSucceeded:
		result = "succeeded"
	case api.TransferFailed:
		result = "failed"
	}
	m.attempts.WithLabelValues(string(t.Spec.Direction), result).Inc()
}

func (m *metrics) count(t *api.VolumeTransfer, done result) {
	kept := t.Spec.Direction == api.Keep && done.image != ""
	if m == nil || t.Spec.Direction != api.Upload && !kept {
		return
	}
	m.uploads.WithLabelValues(string(done.method), done.missed).Inc()
	m.read.WithLabelValues(string(done.method)).Add(float64(done.stats.Read))
}
