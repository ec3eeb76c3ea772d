package table

import (
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// RecoveryPoints lays out the recovery points of standbys, the newest of each first.
func RecoveryPoints(standbies []*api.Standby, now time.Time) *metav1.Table {
	t := &metav1.Table{ColumnDefinitions: columns(
		[]string{"Round", "Application", "Taken", "Age", "Volumes", "Size", "Seal", "Here"}, []string{"Standby", "Sealed", "Reason"})}
	for _, s := range standbies {
		if s.Status.Points == nil {
			continue
		}
		for _, p := range s.Status.Points.Items {
			here := ""
			if p.Round == s.Status.Round {
				here = "yes"
			}
			t.Rows = append(t.Rows, metav1.TableRow{Cells: []any{
				p.Round, s.Spec.Application, moment(p.Taken), since(p.Taken, now), strconv.Itoa(int(p.Volumes)), quantity.Bytes(p.SizeBytes),
				string(p.Seal), here, s.Name, moment(p.Sealed), p.Reason,
			}})
		}
	}
	return t
}

func since(t *metav1.Time, now time.Time) string {
	if t.IsZero() {
		return none
	}
	return quantity.Duration(now.Sub(t.Time))
}

func pointsOf(s *api.Standby) string {
	if s.Status.Points == nil || s.Status.Points.Listed == nil {
		return none
	}
	return strconv.Itoa(int(s.Status.Points.Total))
}
