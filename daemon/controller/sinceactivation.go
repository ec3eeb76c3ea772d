package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
)

// sinceActivation lets the first round of an application that came from this pair's
// other side send only what changed since its volumes were activated: by what the
// storage tells, where a snapshot of the standby is kept of that moment, else by
// comparing all of the volume with the image.
func (x *run) sinceActivation(ctx context.Context, v *api.MigrationVolumeInfo, spec *api.VolumeTransferSpec) error {
	standby, held, err := x.activatedVolume(ctx, v)
	if err != nil || held == nil || held.Image == "" {
		return err
	}
	spec.From = held.Image
	if v.Method != api.MethodBlock || v.Live {
		return nil
	}
	o := migrate.ObservedActivated{Image: held.Image, Renamed: held.Into != "" && held.Into != held.Namespace}
	if o.VolumeHandle, err = x.volumeHandle(ctx, v); err != nil {
		return err
	}
	for _, e := range standby.Status.Snapshots {
		i := slices.IndexFunc(e.Volumes, func(c api.SnapshotOfClaim) bool { return c.Namespace == held.Namespace && c.Name == held.Name })
		if e.Ready && i >= 0 {
			c := e.Volumes[i]
			o.Snapshots = append(o.Snapshots, migrate.ActivatedSnapshot{Image: c.Image, Handle: c.Handle, VolumeHandle: c.VolumeHandle})
		}
	}
	handle, why := migrate.BaseSinceActivation(o)
	if why != "" {
		spec.NoBase = why
		return nil
	}
	spec.Base = &api.TransferBase{Image: held.Image, SnapshotHandle: handle, Cluster: x.peer.ClusterID}
	return nil
}

// activatedVolume is the standby volume that a claim's volume was; nil where the
// application did not come from this pair's other side.
func (x *run) activatedVolume(ctx context.Context, v *api.MigrationVolumeInfo) (*api.Standby, *api.StandbyVolume, error) {
	twin, err := pairing.TwinOf(ctx, x.Peers, x.peer)
	if errors.Is(err, pairing.ErrNotFound) || err == nil && twin.RepositoryPrefix != x.peer.RepositoryPrefix {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var list api.StandbyList
	if err := x.Client.List(ctx, &list, client.InNamespace(x.Namespace)); err != nil {
		return nil, nil, fmt.Errorf("list Standbys: %w", err)
	}
	for i := range list.Items {
		s := &list.Items[i]
		if s.Spec.PairID != twin.PairID || s.Spec.Application != x.application() || s.Spec.Activation == nil {
			continue
		}
		for j := range s.Status.Volumes {
			held := &s.Status.Volumes[j]
			if held.Name == v.PersistentVolumeClaim && (held.Into == v.Namespace || held.Into == "" && held.Namespace == v.Namespace) {
				return s, held, nil
			}
		}
	}
	return nil, nil, nil
}
