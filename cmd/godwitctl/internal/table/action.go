package table

import (
	"cmp"
	"fmt"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// Action is the layout of Actions, storkctl's of failovers and failbacks.
func Action() Layout {
	return Layout{
		Columns: columns([]string{"Name", "Created", "Stage", "Status", "More Info"}, nil),
		Cells: cells(func(a *api.Action, _ time.Time) []any {
			return []any{a.Name, moment(&a.CreationTimestamp), StageOf(a), string(a.Status.Status), cmp.Or(a.Status.Reason, scaledUp(a))}
		}),
	}
}

// scaledUp is storkctl's word on one that is over.
func scaledUp(a *api.Action) string {
	if a.Status.Summary == nil {
		return ""
	}
	each := append(append([]api.NamespaceSummary{}, a.Status.Summary.FailoverSummary...), a.Status.Summary.FailbackSummary...)
	up := 0
	for _, n := range each {
		if n.Status == api.ActionStatusSuccessful {
			up++
		}
	}
	return fmt.Sprintf("Scaled up Apps in : %d/%d namespaces", up, len(each))
}

// StageOf is storkctl's name of an Action's stage.
func StageOf(a *api.Action) string {
	from, to := "source", "destination"
	if a.Spec.ActionType == api.ActionFailback {
		from, to = to, from
	}
	switch a.Status.Stage {
	case api.ActionStageInitial:
		return "Validations"
	case api.ActionStageScaleDownSource, api.ActionStageScaleDownDestination:
		return "Scale Down (on " + from + ")"
	case api.ActionStageLastMileMigration:
		return "Last Mile Migration (from " + from + " -> " + to + ")"
	case api.ActionStageScaleUpSource, api.ActionStageScaleUpDestination:
		return "Scale Up (on " + to + ")"
	case api.ActionStageFinal:
		return "Completed"
	}
	return string(a.Status.Stage)
}
