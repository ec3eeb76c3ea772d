package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
)

// +kubebuilder:rbac:groups=godwit.io,resources=migrationschedules,verbs=get;list;watch;create;patch

// noCopy tells that a schedule has no copy here, or an old one.
func noCopy(ctx context.Context, wanted *api.MigrationSchedule, err error) {
	log.FromContext(ctx).Info("no copy of the schedule as it is now is kept here", "schedule", client.ObjectKeyFromObject(wanted), "because", err.Error())
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
// "activate migration": they would stop it.
func (s *session) startedHere(ctx context.Context, application string) error {
	namespace, _, _ := strings.Cut(application, "/")
	var list api.MigrationScheduleList
	if err := s.Live.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return fmt.Errorf("list the MigrationSchedules of namespace %s: %w", namespace, err)
	}
	for i := range list.Items {
		c := &list.Items[i]
		if c.IsCopy() && c.Status.ApplicationActivated && c.Annotations[api.AnnotationCopyStandby] == standbyName(s.peer.PairID, application) {
			return fmt.Errorf("%w: MigrationSchedule %s/%s says so on cluster %s: stop it there with deactivate migration -n %s, then resume the schedule",
				migrate.ErrActivated, c.Namespace, c.Name, s.ClusterID, c.Namespace)
		}
	}
	return nil
}
