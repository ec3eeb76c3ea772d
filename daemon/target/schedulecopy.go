package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
)

// +kubebuilder:rbac:groups=godwit.io,resources=migrationschedules,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=godwit.io,resources=migrationschedules/status,verbs=patch

// noCopy tells that a schedule has no copy here, or an old one. That its namespace is
// not here yet is as it should be.
func noCopy(ctx context.Context, wanted *api.MigrationSchedule, err error) {
	const text = "no copy of the schedule as it is now is kept here"
	if apierrors.IsNotFound(err) {
		log.FromContext(ctx).Info(text, "schedule", client.ObjectKeyFromObject(wanted), "because", err.Error())
		return
	}
	log.FromContext(ctx).Error(err, text, "schedule", client.ObjectKeyFromObject(wanted))
}

// keepCopy keeps, beside the application, the copy of the schedule that made the
// round: it makes no runs, and it is where users mark the application as started
// here. Where none can be kept, rounds go on without one.
func (s *session) keepCopy(ctx context.Context, b migrate.Begin) error {
	if b.Schedule == nil {
		return nil
	}
	wanted, err := s.copyOf(b)
	if err != nil {
		return err
	}
	var there api.MigrationSchedule
	err = s.Live.Get(ctx, client.ObjectKeyFromObject(wanted), &there)
	if apierrors.IsNotFound(err) {
		err = s.Client.Create(ctx, wanted)
		if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
			// Its namespace is not here, or is going, or this version takes less: a
			// round is worth more than the copy of its schedule.
			noCopy(ctx, wanted, err)
			return nil
		}
		if client.IgnoreAlreadyExists(err) != nil {
			return fmt.Errorf("keep a copy of MigrationSchedule %s/%s: %w", wanted.Namespace, wanted.Name, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read MigrationSchedule %s/%s: %w", wanted.Namespace, wanted.Name, err)
	}
	mine, err := s.ownsCopy(ctx, &there)
	if err != nil {
		return err
	}
	if !mine {
		s.Events.Eventf(&there, nil, corev1.EventTypeWarning, "NoCopy", "Copy",
			"cluster %s has a schedule of this name, and this one is no copy of it: none is kept here", s.peer.ClusterID)
		return nil
	}
	before := there.DeepCopy()
	for k, v := range wanted.Annotations {
		there.Annotations[k] = v
	}
	there.Spec.Template, there.Spec.SchedulePolicyName = wanted.Spec.Template, wanted.Spec.SchedulePolicyName
	there.Spec.AutoSuspend, there.Spec.Suspend = wanted.Spec.AutoSuspend, wanted.Spec.Suspend
	if equality.Semantic.DeepEqual(before, &there) {
		return nil
	}
	err = s.Client.Patch(ctx, &there, client.MergeFrom(before))
	if apierrors.IsInvalid(err) {
		noCopy(ctx, wanted, err)
		return nil
	}
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("bring the copy of MigrationSchedule %s/%s up to date: %w", there.Namespace, there.Name, err)
	}
	return nil
}

func (s *session) copyOf(b migrate.Begin) (*api.MigrationSchedule, error) {
	namespace, _, _ := strings.Cut(b.Application, "/")
	suspend := true
	c := &api.MigrationSchedule{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: b.Schedule.Name,
			Annotations: map[string]string{
				api.AnnotationStaticCopy: "true", api.AnnotationCopyPair: s.peer.PairID,
				api.AnnotationCopyStandby: standbyName(s.peer.PairID, b.Application),
			},
		},
		Spec: api.MigrationScheduleSpec{
			SchedulePolicyName: b.Schedule.Policy, AutoSuspend: b.Schedule.AutoSuspend, Suspend: &suspend,
		},
	}
	if err := json.Unmarshal(b.Schedule.Template, &c.Spec.Template.Spec); err != nil {
		return nil, fmt.Errorf("the template of MigrationSchedule %s: %w: %w", b.Schedule.Name, pairing.ErrRequest, err)
	}
	return c, nil
}

// ownsCopy is true for a copy that this pair brought, or one that is gone.
func (s *session) ownsCopy(ctx context.Context, there *api.MigrationSchedule) (bool, error) {
	pair := there.Annotations[api.AnnotationCopyPair]
	if !there.IsCopy() || pair == s.peer.PairID {
		return there.IsCopy(), nil
	}
	_, err := s.Peers.Get(ctx, pairing.Incoming, pair)
	if errors.Is(err, pairing.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read pair %s: %w", pair, err)
	}
	return false, nil
}

// startedHere refuses rounds of an application that was started on this cluster by
// "activate migration": they would stop it. Of one that was failed over, its epoch
// says whose it is, and not the mark, which is only shown.
func (s *session) startedHere(ctx context.Context, application string) error {
	standby := standbyName(s.peer.PairID, application)
	copies, err := s.copiesOf(ctx, application, standby)
	if err != nil {
		return err
	}
	for i := range copies {
		c := &copies[i]
		if !c.Status.ApplicationActivated {
			continue
		}
		var there api.Standby
		err := s.Live.Get(ctx, types.NamespacedName{Namespace: s.Namespace, Name: standby}, &there)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("read the Standby of %s: %w", application, err)
		}
		if err == nil && isActive(&there) {
			return nil
		}
		return fmt.Errorf("%w: MigrationSchedule %s/%s says so on cluster %s: stop it there with deactivate migration -n %s, then resume the schedule",
			migrate.ErrActivated, c.Namespace, c.Name, s.ClusterID, c.Namespace)
	}
	return nil
}

// copiesOf are the copies, on this cluster, of the schedules that a standby is
// replicated by.
func (a *Agent) copiesOf(ctx context.Context, application, standby string) ([]api.MigrationSchedule, error) {
	namespace, _, _ := strings.Cut(application, "/")
	var list api.MigrationScheduleList
	if err := a.Live.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list the MigrationSchedules of namespace %s: %w", namespace, err)
	}
	return slices.DeleteFunc(list.Items, func(m api.MigrationSchedule) bool {
		return !m.IsCopy() || m.Annotations[api.AnnotationCopyStandby] != standby
	}), nil
}

// markCopies says in the copies of the application's schedules whether it runs here.
func (x *run) markCopies(ctx context.Context, activated bool) error {
	if x.s.Spec.Drill != nil {
		return nil
	}
	copies, err := x.copiesOf(ctx, x.s.Spec.Application, x.s.Name)
	if err != nil {
		return err
	}
	for i := range copies {
		c := &copies[i]
		if c.Status.ApplicationActivated == activated {
			continue
		}
		before := c.DeepCopy()
		c.Status.ApplicationActivated = activated
		if err := x.Client.Status().Patch(ctx, c, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("set applicationActivated of MigrationSchedule %s/%s to %t: %w", c.Namespace, c.Name, activated, err)
		}
	}
	return nil
}
