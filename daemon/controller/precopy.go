package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

// +kubebuilder:rbac:groups=godwit.io,resources=migrations,verbs=create;delete

const (
	// conditionPrecopied is set once enough rounds were made while the application ran.
	conditionPrecopied = "Precopied"
	// labelPrecopy has the uid of the Migration that a round is for.
	labelPrecopy = "godwit.io/precopy-of"
	// annotationPrecopy has the round's number.
	annotationPrecopy = "godwit.io/precopy-round"
	longestName       = 253
)

// isRoundOf is true for a stage run that was made for the Migration: the two do not
// wait for each other.
func isRoundOf(m, of *api.Migration) bool { return m.Labels[labelPrecopy] == string(of.UID) }

// rounds are the stage runs that were made for this Migration, in order.
func (x *run) rounds(ctx context.Context) ([]api.Migration, error) {
	var list api.MigrationList
	if err := x.Live.List(ctx, &list, client.InNamespace(x.m.Namespace), client.MatchingLabels{labelPrecopy: string(x.m.UID)}); err != nil {
		return nil, fmt.Errorf("list the rounds of Migration %s/%s: %w", x.m.Namespace, x.m.Name, err)
	}
	number := func(m api.Migration) int {
		n, err := strconv.Atoi(m.Annotations[annotationPrecopy])
		if err != nil {
			return 0 // What is none comes first.
		}
		return n
	}
	slices.SortFunc(list.Items, func(a, b api.Migration) int { return cmp.Compare(number(a), number(b)) })
	return list.Items, nil
}

// precopy makes rounds while the application runs. All that it knows of them is in
// the stage runs themselves.
func (x *run) precopy(ctx context.Context) error {
	made, err := x.rounds(ctx)
	if err != nil {
		return err
	}
	x.m.Status.Precopy = nil
	var rounds []migrate.PrecopyRound
	for i := range made {
		x.m.Status.Precopy = append(x.m.Status.Precopy, roundInfo(&made[i]))
		rounds = append(rounds, roundOf(&made[i]))
	}
	limits := migrate.PrecopyLimits{MaxDowntime: migrate.DefaultMaxDowntime, MaxRounds: int(x.m.Spec.Precopy.MaxRounds)}
	if d := x.m.Spec.Precopy.MaxDowntime; d != nil {
		limits.MaxDowntime = d.Duration
	}
	switch a := migrate.NextPrecopy(rounds, limits); a.Kind {
	case migrate.AnotherRound:
		return x.startRound(ctx, len(rounds)+1)
	case migrate.EnoughRounds:
		x.mark(conditionPrecopied, a.Reason, a.Message)
		x.Events.Eventf(x.m, nil, corev1.EventTypeNormal, "Precopied", "Precopy", "%s", a.Message)
		return nil
	case migrate.RoundFailed:
		return final(a.Reason, "%w", errors.New(a.Message))
	default:
		x.waiting(a.Reason, a.Message)
		return nil
	}
}

func (x *run) startRound(ctx context.Context, n int) error {
	yes := true
	m := &api.Migration{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: x.m.Namespace, Name: roundName(x.m.Name, n),
			Labels:      map[string]string{labelPrecopy: string(x.m.UID), labelManaged: managedBy},
			Annotations: map[string]string{annotationPrecopy: strconv.Itoa(n)},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: api.GroupVersion().String(), Kind: "Migration", Name: x.m.Name, UID: x.m.UID, Controller: &yes,
			}},
		},
		Spec: *x.m.Spec.DeepCopy(),
	}
	m.Spec.Stage, m.Spec.Quiesce, m.Spec.Precopy, m.Spec.Cancel = &yes, nil, nil, nil
	m.Spec.Hooks = nil // They run once, for the Migration itself.
	m.Spec.Rollback, m.Spec.DropTargetWrites, m.Spec.BringTargetWrites = nil, nil, nil
	if err := x.Client.Create(ctx, m); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make round %d: %w", n, err)
	}
	x.waiting("Precopy", fmt.Sprintf("round %d copies while the application runs (Migration %s)", n, m.Name))
	return nil
}

func roundName(name string, n int) string {
	suffix := "-precopy-" + strconv.Itoa(n)
	return name[:min(len(name), longestName-len(suffix))] + suffix
}

func roundOf(m *api.Migration) migrate.PrecopyRound {
	r := migrate.PrecopyRound{Name: m.Name, Ended: m.Status.Stage == api.MigrationStageFinal}
	ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady)
	switch {
	case !m.DeletionTimestamp.IsZero():
		r.Failed = "it was deleted"
	case r.Ended && m.Status.Status != api.MigrationStatusSuccessful:
		r.Failed = "it ended as " + string(m.Status.Status)
		if ready != nil {
			r.Failed = ready.Message
		}
	case r.Ended && m.Status.FinishTimestamp != nil:
		r.Took = m.Status.FinishTimestamp.Sub(m.CreationTimestamp.Time)
	}
	return r
}

func roundInfo(m *api.Migration) api.PrecopyRound {
	info := api.PrecopyRound{Migration: m.Name, Status: m.Status.Status}
	for _, v := range m.Status.Volumes {
		info.BytesChanged += v.BytesChanged
		info.BytesUploaded += v.BytesUploaded
	}
	if m.Status.FinishTimestamp != nil {
		info.Took = &metav1.Duration{Duration: m.Status.FinishTimestamp.Sub(m.CreationTimestamp.Time)}
	}
	return info
}

// dropRounds ends the rounds of a Migration that has ended, and reports whether all
// are gone. The standby stays as the last of them left it.
func (x *run) dropRounds(ctx context.Context) (bool, error) {
	if x.m.Spec.Precopy == nil {
		return true, nil
	}
	rounds, err := x.rounds(ctx)
	if err != nil {
		return false, err
	}
	for i := range rounds {
		if err := x.Client.Delete(ctx, &rounds[i]); client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("delete round %s: %w", rounds[i].Name, err)
		}
	}
	return len(rounds) == 0, nil
}
