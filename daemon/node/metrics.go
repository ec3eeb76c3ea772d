package node

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// metrics counts uploads by the method that read them.
type metrics struct {
	uploads *prometheus.CounterVec
	read    *prometheus.CounterVec
}

func newMetrics(to prometheus.Registerer) (*metrics, error) {
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
	}
	for _, c := range []prometheus.Collector{m.uploads, m.read} {
		if err := to.Register(c); err != nil {
			return nil, fmt.Errorf("set up the node's metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) count(t *api.VolumeTransfer, done result) {
	if m == nil || t.Spec.Direction != api.Upload {
		return
	}
	m.uploads.WithLabelValues(string(done.method), done.missed).Inc()
	m.read.WithLabelValues(string(done.method)).Add(float64(done.stats.Read))
}
