package target

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// applyWaves writes the admitted objects, wave by wave. What may succeed when it is
// tried again ends the turn.
func (x *run) applyWaves(ctx context.Context, admitted []workload.Moved, o workload.ApplyOptions, j *journal) ([]workload.Outcome, error) {
	var told []workload.Outcome
	for _, wave := range workload.Order(plainObjects(admitted)) {
		sound, dangling := partBindings(wave.Objects, told)
		outcomes, err := workload.ApplyWave(ctx, x.Objects, sound, o, j)
		if err != nil {
			return nil, err
		}
		for _, outcome := range outcomes {
			if workload.Retryable(outcome.Err) {
				return nil, outcome.Err
			}
			x.tellAddresses(outcome.GaveUp)
		}
		told = append(append(told, outcomes...), dangling...)
	}
	return told, nil
}

// tieOwners gives objects to their owners of the same round. Only what this standby
// made is tied: with an owner that is taken back it goes too.
func (x *run) tieOwners(ctx context.Context, admitted []workload.Moved, told []workload.Outcome, o workload.ApplyOptions) error {
	failed := make(map[workload.Ref]bool)
	for _, outcome := range told {
		failed[plainRef(outcome.Ref)] = outcome.Err != nil
	}
	var owned []*workload.Moved
	for i := range admitted {
		if len(admitted[i].Owners) > 0 && !failed[plainRef(workload.RefOf(&admitted[i].Unstructured))] {
			owned = append(owned, &admitted[i])
		}
	}
	if len(owned) == 0 {
		return nil
	}
	undo, err := x.loadUndo(ctx)
	if err != nil {
		return err
	}
	made := make(map[workload.Ref]bool)
	for _, applied := range undo {
		made[plainRef(applied.Ref)] = applied.Action == workload.Created
	}
	for _, moved := range owned {
		if !made[plainRef(workload.RefOf(&moved.Unstructured))] {
			continue
		}
		err := workload.Tie(ctx, x.Objects, moved, o)
		if workload.Retryable(err) {
			return err
		}
		if err != nil {
			x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, "OwnerNotTied", "Apply", "%s: it stays without", err)
		}
	}
	return nil
}

// partBindings parts the bindings whose role came along and could not be applied.
// They were admitted for that role; what comes by its name later would be granted.
func partBindings(objects []unstructured.Unstructured, told []workload.Outcome) (sound []unstructured.Unstructured, dangling []workload.Outcome) {
	failed := make(map[workload.Ref]bool)
	for _, outcome := range told {
		if outcome.Err != nil && outcome.Ref.Group == rbacv1.GroupName {
			failed[plainRef(outcome.Ref)] = true
		}
	}
	if len(failed) == 0 {
		return objects, nil
	}
	for i := range objects {
		ref := workload.RefOf(&objects[i])
		role := shape.Child(objects[i].Object, "roleRef")
		wanted := workload.Ref{Group: rbacv1.GroupName, Kind: shape.Text(role, "kind"), Name: shape.Text(role, "name")}
		if wanted.Kind == "Role" {
			wanted.Namespace = ref.Namespace
		}
		if ref.Group != rbacv1.GroupName || !failed[wanted] {
			sound = append(sound, objects[i])
			continue
		}
		dangling = append(dangling, workload.Outcome{
			Applied: workload.Applied{Ref: ref},
			Err:     fmt.Errorf("apply %s: it grants %s, which came along and could not be applied: mend that, then try again", ref, wanted),
		})
	}
	return sound, dangling
}

// keepAddresses lets Services keep what this cluster can give them, and tells of
// what it cannot.
func (x *run) keepAddresses(ctx context.Context, admitted []workload.Moved, i workload.Instructions) error {
	lines, err := workload.KeepAddresses(ctx, x.Objects, admitted, x.Namespace, i)
	if err != nil {
		return err
	}
	x.tellAddresses(lines)
	return nil
}

func (x *run) tellAddresses(lines []string) {
	for _, line := range lines {
		x.Events.Eventf(x.s, nil, corev1.EventTypeNormal, "AddressGivenUp", "Apply", "%s", line)
	}
}
