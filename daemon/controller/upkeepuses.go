package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/schedule"
	"github.com/godwit-io/godwit/snapshot"
)

// lookAtUses finds which schedules keep what, and which images are needed.
func (x *upkeep) lookAtUses(ctx context.Context) error {
	used := map[snapshot.ImageID]bool{}
	for _, look := range []func(context.Context, map[snapshot.ImageID]bool) error{x.lookAtMigrations, x.lookAtTransfers, x.lookAtBases} {
		if err := look(ctx, used); err != nil {
			return err
		}
	}
	if err := x.lookAtSchedules(ctx); err != nil {
		return err
	}
	x.view.inUse = used
	return nil
}

// lookAtMigrations finds the round that the target is known to hold of each
// application, and the images of rounds that are not sealed yet.
func (x *upkeep) lookAtMigrations(ctx context.Context, used map[snapshot.ImageID]bool) error {
	var list api.MigrationList
	if err := x.Live.List(ctx, &list); err != nil {
		return fmt.Errorf("list the Migrations: %w", err)
	}
	x.view.reached = map[line]string{}
	for i := range list.Items {
		m := &list.Items[i]
		pair, over := x.over(m)
		if !over {
			continue
		}
		of := line{m.Status.Application, pair}
		if ended(*m) && good(m.Status.Status) && of.app != "" {
			x.view.reached[of] = max(x.view.reached[of], m.Status.Round)
		}
		if ended(*m) {
			continue
		}
		for _, v := range m.Status.Volumes {
			used[snapshot.ImageID(v.Image)] = true
		}
	}
	return nil
}

// over is the pair by which something goes, where that uses the repository.
func (x *upkeep) over(m *api.Migration) (pair string, over bool) {
	peer, over := x.peers[m.Spec.ClusterPair]
	return peer.PairID, over && m.Namespace == x.pair.Namespace
}

// lookAtTransfers finds what nodes read or start from.
func (x *upkeep) lookAtTransfers(ctx context.Context, used map[snapshot.ImageID]bool) error {
	var list api.VolumeTransferList
	if err := x.Live.List(ctx, &list, client.InNamespace(x.Namespace)); err != nil {
		return fmt.Errorf("list the VolumeTransfers: %w", err)
	}
	for _, t := range list.Items {
		for _, id := range []string{t.Spec.Image, t.Spec.From, t.Status.Image} {
			used[snapshot.ImageID(id)] = true
		}
		if t.Spec.Base != nil {
			used[snapshot.ImageID(t.Spec.Base.Image)] = true
		}
	}
	return nil
}

// lookAtBases finds what the next rounds start from.
func (x *upkeep) lookAtBases(ctx context.Context, used map[snapshot.ImageID]bool) error {
	var list corev1.ConfigMapList
	if err := x.Live.List(ctx, &list, client.InNamespace(x.Namespace), client.MatchingLabels{labelManaged: managedBy}); err != nil {
		return fmt.Errorf("list the bases: %w", err)
	}
	for _, config := range list.Items {
		data, is := config.Data[keyBases]
		if !is {
			continue
		}
		var b book
		if err := json.Unmarshal([]byte(data), &b); err != nil {
			return fmt.Errorf("read the bases in ConfigMap %s: %w: delete it, and the next round is a full copy", config.Name, err)
		}
		for _, e := range b.Bases {
			used[snapshot.ImageID(e.Image)] = true
		}
	}
	return nil
}

// lookAtSchedules finds which recovery points are to stay.
func (x *upkeep) lookAtSchedules(ctx context.Context) error {
	var list api.MigrationScheduleList
	if err := x.Live.List(ctx, &list); err != nil {
		return fmt.Errorf("list the MigrationSchedules: %w", err)
	}
	x.view.retention = map[line][]schedule.Retention{}
	keepsAll := map[line]bool{}
	for i := range list.Items {
		s := &list.Items[i]
		m := &api.Migration{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace}, Spec: s.Spec.Template.Spec}
		pair, over := x.over(m)
		if s.IsCopy() || !over || len(m.Spec.Namespaces) == 0 {
			continue
		}
		of := line{applicationOf(m), pair}
		if s.Spec.RecoveryPoints == nil || !s.DeletionTimestamp.IsZero() {
			keepsAll[of] = true
			continue
		}
		zone, err := x.zoneOf(ctx, s)
		if err != nil {
			return err
		}
		r := s.Spec.RecoveryPoints
		x.view.retention[of] = append(x.view.retention[of], schedule.Retention{
			Last: r.Last, Within: time.Duration(r.WithinHours) * time.Hour, Zone: zone,
			Hourly: r.Hourly, Daily: r.Daily, Weekly: r.Weekly, Monthly: r.Monthly,
		})
	}
	for of := range keepsAll {
		delete(x.view.retention, of)
	}
	return nil
}

// zoneOf is where the days of a schedule begin.
func (x *upkeep) zoneOf(ctx context.Context, s *api.MigrationSchedule) (*time.Location, error) {
	if s.Spec.Continuous {
		return time.UTC, nil
	}
	item, err := policyFor(ctx, x.Client, s.Namespace, s.Spec.SchedulePolicyName)
	if err != nil {
		return nil, fmt.Errorf("find the policy of MigrationSchedule %s/%s: %w", s.Namespace, s.Name, err)
	}
	zone, err := time.LoadLocation(item.TimeZone)
	if err != nil {
		return nil, fmt.Errorf("time zone of the policy of MigrationSchedule %s/%s: %w", s.Namespace, s.Name, err)
	}
	return zone, nil
}
