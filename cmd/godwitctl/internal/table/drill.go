package table

import (
	"time"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// Drill is the layout of Drills.
func Drill() Layout {
	return Layout{
		Columns: columns([]string{"Name", "Standby", "Phase", "Round", "Ready", "Took", "Last-Success", "Created"}, []string{"Next", "Message"}),
		Cells: cells(func(d *api.Drill, _ time.Time) []any {
			took := none
			if d.Status.Ended != nil {
				took = quantity.Duration(time.Duration(d.Status.Seconds) * time.Second)
			}
			return []any{
				d.Name, d.Spec.Standby, string(d.Status.Phase), d.Status.Round, d.Status.Ready, took, moment(d.Status.LastSuccess), created(d),
				moment(d.Status.NextRun), d.Status.Message,
			}
		}),
	}
}
