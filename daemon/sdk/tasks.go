package sdk

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	sdkapi "github.com/libopenstorage/openstorage/api"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing/openstorage"
)

// Tasks is the backend of OpenStorageMigrate.
type Tasks struct{ *Backend }

var _ openstorage.Tasks = Tasks{}

const (
	annotationTask    = "godwit.io/sdk-task"
	annotationCluster = "godwit.io/sdk-cluster"
	annotationVolume  = "godwit.io/sdk-volume"
	taskIDSize        = 12
)

// Start writes a Migration of volumes without their objects: of one, of a group,
// or of every namespace that the pair covers.
func (b Tasks) Start(ctx context.Context, o openstorage.Operation) (string, error) {
	if o.TaskID == "" {
		raw := make([]byte, taskIDSize)
		if _, err := io.ReadFull(b.Random, raw); err != nil {
			return "", fmt.Errorf("make a task id: %w", err)
		}
		o.TaskID = hex.EncodeToString(raw)
	}
	pair, err := b.pairTo(ctx, o.ClusterID)
	if err != nil {
		return "", err
	}
	yes, no := true, false
	m := &api.Migration{ObjectMeta: metav1.ObjectMeta{
		Namespace: pair.object.Namespace, Name: objectName("task", o.TaskID), Labels: map[string]string{labelMadeBy: madeBy},
		Annotations: map[string]string{annotationTask: o.TaskID, annotationCluster: o.ClusterID},
	}}
	// Asked before the volumes are: the task may have moved what it names.
	err = b.Client.Get(ctx, client.ObjectKeyFromObject(m), &api.Migration{})
	if err == nil {
		return "", fmt.Errorf("task %s: %w", o.TaskID, openstorage.ErrExists)
	}
	if !apierrors.IsNotFound(err) {
		return "", fmt.Errorf("read Migration %s/%s: %w", m.Namespace, m.Name, err)
	}
	if err := b.choose(ctx, m, o, pair.peer.Scope); err != nil {
		return "", err
	}
	m.Spec.ClusterPair = pair.object.Name
	m.Spec.IncludeVolumes, m.Spec.IncludeResources, m.Spec.StartApplications = &yes, &no, &no
	err = b.Client.Create(ctx, m)
	if apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("task %s: %w", o.TaskID, openstorage.ErrExists)
	}
	if err != nil {
		return "", fmt.Errorf("create Migration %s/%s: %w", m.Namespace, m.Name, err)
	}
	return o.TaskID, nil
}

// pairTo prefers what the SDK itself made.
func (b Tasks) pairTo(ctx context.Context, clusterID string) (held, error) {
	all, err := b.held(ctx)
	if err != nil {
		return held{}, err
	}
	for _, h := range all {
		if h.peer.ClusterID == clusterID && h.object.Namespace == b.Namespace {
			return h, nil
		}
	}
	return held{}, fmt.Errorf("a pair with cluster %q in namespace %s: %w", clusterID, b.Namespace, openstorage.ErrNotFound)
}

// Cancel ends the Migration, which takes back what is not done. One that is over
// stays as it is: a caller cancels all tasks of which it started some.
func (b Tasks) Cancel(ctx context.Context, taskID string) error {
	all, err := b.migrations(ctx, taskID)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("task %q: %w", taskID, openstorage.ErrNotFound)
	}
	yes := true
	for i := range all {
		m := &all[i]
		if m.Status.Stage == api.MigrationStageFinal {
			continue
		}
		before := m.DeepCopy()
		m.Spec.Cancel = &yes
		if err := b.Client.Patch(ctx, m, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cancel Migration %s/%s: %w", m.Namespace, m.Name, err)
		}
	}
	return nil
}

func (b Tasks) migrations(ctx context.Context, taskID string) ([]api.Migration, error) {
	var list api.MigrationList
	if err := b.Client.List(ctx, &list, client.MatchingLabels{labelMadeBy: madeBy}); err != nil {
		return nil, fmt.Errorf("list Migrations: %w", err)
	}
	return slices.DeleteFunc(list.Items, func(m api.Migration) bool {
		return taskID != "" && m.Annotations[annotationTask] != taskID
	}), nil
}

// List is openstorage.Tasks'.
func (b Tasks) List(ctx context.Context, taskID string) ([]openstorage.Progress, error) {
	all, err := b.migrations(ctx, taskID)
	if err != nil {
		return nil, err
	}
	var out []openstorage.Progress
	for _, m := range all {
		out = append(out, progressOf(m)...)
	}
	return out, nil
}

func progressOf(m api.Migration) []openstorage.Progress {
	whole := openstorage.Progress{
		TaskID: m.Annotations[annotationTask], ClusterID: m.Annotations[annotationCluster], VolumeID: m.Annotations[annotationVolume],
		Stage: sdkapi.CloudMigrate_Backup, Status: statusOf(m.Status.Status), Started: m.CreationTimestamp.Time,
	}
	for _, c := range m.Status.Conditions {
		if c.LastTransitionTime.After(whole.Updated) {
			whole.Updated = c.LastTransitionTime.Time
		}
	}
	if ready := meta.FindStatusCondition(m.Status.Conditions, api.ConditionReady); ready != nil && whole.Status == sdkapi.CloudMigrate_Failed {
		whole.Reason = ready.Message
	}
	if m.Status.FinishTimestamp != nil {
		whole.Finished = m.Status.FinishTimestamp.Time
	}
	if len(m.Status.Volumes) == 0 {
		return []openstorage.Progress{whole}
	}
	var out []openstorage.Progress
	for _, v := range m.Status.Volumes {
		p := whole
		p.VolumeID, p.VolumeName, p.RemoteVolumeID = v.Volume, v.Namespace+"/"+v.PersistentVolumeClaim, v.TargetVolume
		p.Reason = cmp.Or(v.Reason, whole.Reason)
		p.Status, p.Stage = statusOf(v.Status), stageOf(v.Step)
		if m.Status.Stage == api.MigrationStageFinal && p.Status != sdkapi.CloudMigrate_Failed {
			// What became of the whole: a volume that is there is not yet handed over.
			p.Status = whole.Status
		}
		p.BytesTotal, p.BytesDone, p.SecondsLeft = uint64(max(v.BytesTotal, 0)), uint64(max(v.BytesDone, 0)), v.SecondsLeft
		out = append(out, p)
	}
	return out
}

func statusOf(s api.MigrationStatusType) sdkapi.CloudMigrate_Status {
	switch s {
	case api.MigrationStatusInitial:
		return sdkapi.CloudMigrate_Queued
	case api.MigrationStatusPending:
		return sdkapi.CloudMigrate_Initialized
	case api.MigrationStatusFailed:
		return sdkapi.CloudMigrate_Failed
	case api.MigrationStatusCancelled, api.MigrationStatusRolledBack:
		return sdkapi.CloudMigrate_Canceled
	case api.MigrationStatusSuccessful, api.MigrationStatusPartialSuccess, api.MigrationStatusPurged:
		return sdkapi.CloudMigrate_Complete
	}
	return sdkapi.CloudMigrate_InProgress
}

// stageOf reads the step of a volume, as its Migration's status spells it.
func stageOf(step string) sdkapi.CloudMigrate_Stage {
	switch step {
	case "Restore":
		return sdkapi.CloudMigrate_Restore
	case "Done":
		return sdkapi.CloudMigrate_Done
	}
	return sdkapi.CloudMigrate_Backup
}
