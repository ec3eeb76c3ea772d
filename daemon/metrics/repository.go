package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func readStandby(s *api.Standby) []prometheus.Metric {
	if s.Spec.Drill != nil {
		return nil // It is no standby of anything.
	}
	labels := []string{s.Name, s.Spec.Application}
	kept := 0
	for _, e := range s.Status.Snapshots {
		if e.Ready {
			kept++
		}
	}
	out := []prometheus.Metric{
		standbyPhase().at(1, s.Name, s.Spec.Application, string(s.Status.Phase)),
		standbyBytes().at(float64(s.Status.SizeBytes), labels...),
		standbySnapshots().at(float64(kept), labels...),
		standbyActivated().at(truth(!s.Spec.Stage || s.Spec.Activation != nil), labels...),
	}
	if s.Status.Reached != nil {
		out = append(out, standbyAge().at(unix(s.Status.Reached.Time), labels...))
	}
	if s.Status.Taken != nil {
		out = append(out, standbyTaken().at(unix(s.Status.Taken.Time), labels...))
	}
	if s.Status.Points == nil || s.Status.Points.Listed == nil {
		return out
	}
	out = append(out, recoveryPoints().at(float64(s.Status.Points.Total), labels...))
	for _, p := range s.Status.Points.Items {
		if p.Seal == api.SealValid && p.Taken != nil {
			return append(out, newestPoint().at(unix(p.Taken.Time), labels...))
		}
	}
	return out
}

func readUpkeep(p *api.ClusterPair) []prometheus.Metric {
	u := p.Status.Upkeep
	if u == nil {
		return nil
	}
	out := []prometheus.Metric{
		upkeepFailing().at(truth(u.Failing), p.Namespace, p.Name),
		upkeepRemoved().at(float64(u.RemovedPoints), p.Namespace, p.Name),
		repositoryPoints().at(float64(u.Points), p.Namespace, p.Name),
	}
	if u.Done != nil {
		out = append(out, upkeepDone().at(unix(u.Done.Time), p.Namespace, p.Name))
	}
	return out
}

func readDrill(d *api.Drill, now time.Time) []prometheus.Metric {
	var out []prometheus.Metric
	if len(d.Status.Results) > 0 {
		out = append(out, drillResult().at(truth(d.Status.Results[0].Success), d.Name, d.Spec.Standby))
	}
	if at := d.Status.LastSuccess; at != nil {
		out = append(out, drillSuccess().at(unix(at.Time), d.Name, d.Spec.Standby))
	}
	if d.Spec.IntervalHours > 0 {
		due := d.CreationTimestamp.Time
		if d.Status.NextRun != nil {
			due = d.Status.NextRun.Time
		} else if d.Status.Started != nil {
			due = d.Status.Started.Add(time.Duration(d.Spec.IntervalHours) * time.Hour)
		}
		out = append(out, drillOverdue().at(max(now.Sub(due).Seconds(), 0), d.Name, d.Spec.Standby))
	}
	return out
}
