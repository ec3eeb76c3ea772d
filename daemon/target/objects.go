package target

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload"
)

const resourceApplied = "Resource migrated successfully"

// applyObjects writes the round's objects in waves. How to undo each write is
// kept before it is made.
func (x *run) applyObjects(ctx context.Context) error {
	x.s.Status.Phase = api.StandbyApplications
	objects, err := x.objects(ctx)
	if err != nil {
		return err
	}
	infos := x.volumeInfos()
	undo, err := x.loadUndo(ctx)
	if err != nil {
		return err
	}
	for _, wave := range workload.Order(objects) {
		for _, object := range wave.Objects {
			info, err := x.applyObject(ctx, object, undo)
			if err != nil {
				return err
			}
			infos = append(infos, info)
		}
		if err := x.saveUndo(ctx, undo); err != nil {
			return err
		}
	}
	x.s.Status.Resources = infos
	x.mark(conditionApplied, "Applied", fmt.Sprintf("%d objects", len(infos)))
	return nil
}

// objects reads the round's objects and changes them for this cluster.
func (x *run) objects(ctx context.Context) ([]unstructured.Unstructured, error) {
	point, data, err := x.sealedRound(ctx)
	if err != nil {
		return nil, err
	}
	objects, err := workload.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%w: objects of round %s: %w", errRefused, point.Round, err)
	}
	namespace, name, _ := strings.Cut(x.s.Spec.Application, "/")
	options := workload.TransformOptions{
		StartApplications: x.s.Spec.StartApplications, MigrationName: name, MigrationNamespace: namespace,
		Time: point.Sealed, Volumes: map[types.NamespacedName]workload.ClaimVolume{},
	}
	for i := range x.s.Status.Volumes {
		v := &x.s.Status.Volumes[i]
		class, err := x.classOf(ctx, v.Volume)
		if err != nil {
			return nil, err
		}
		options.Volumes[types.NamespacedName{Namespace: v.Namespace, Name: v.Name}] = workload.ClaimVolume{PersistentVolume: v.Volume, StorageClass: class}
	}
	changed, err := workload.Transform(objects, options)
	if err != nil {
		return nil, fmt.Errorf("%w: objects of round %s: %w", errRefused, point.Round, err)
	}
	return changed, nil
}

func (x *run) classOf(ctx context.Context, volume string) (string, error) {
	var pv corev1.PersistentVolume
	if err := x.Client.Get(ctx, types.NamespacedName{Name: volume}, &pv); err != nil {
		return "", fmt.Errorf("read volume %s: %w", volume, err)
	}
	return pv.Spec.StorageClassName, nil
}

// volumeInfos lists the volumes that were made, as stork lists them.
func (x *run) volumeInfos() []api.MigrationResourceInfo {
	infos := make([]api.MigrationResourceInfo, 0, len(x.s.Status.Volumes))
	for _, v := range x.s.Status.Volumes {
		infos = append(infos, api.MigrationResourceInfo{
			Version: "v1", Kind: "PersistentVolume", Name: v.Volume, Status: api.MigrationStatusSuccessful, Reason: resourceApplied,
		})
	}
	return infos
}

// applyObject writes one object. What cannot be mended by trying again is
// recorded and does not stop the others.
func (x *run) applyObject(ctx context.Context, object unstructured.Unstructured, undo map[string]workload.Applied) (api.MigrationResourceInfo, error) {
	ref := workload.RefOf(&object)
	info := api.MigrationResourceInfo{
		Group: ref.Group, Version: ref.Version, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name,
		Status: api.MigrationStatusSuccessful, Reason: resourceApplied,
	}
	if problem := x.outside(ref); problem != "" {
		info.Status, info.Reason = api.MigrationStatusFailed, problem
		return info, nil
	}
	// The first record wins: when objects are applied again after a crash, what
	// was there before is only in it.
	_, known := undo[ref.String()]
	applied, err := workload.Apply(ctx, x.Objects, object, workload.ApplyOptions{
		FieldManager: managedBy, Owner: x.s.Spec.PairID,
		Record: func(ctx context.Context, intent workload.Applied) error {
			if known {
				return nil
			}
			undo[ref.String()] = intent
			return x.saveUndo(ctx, undo)
		},
	})
	if err != nil && workload.Retryable(err) {
		return info, fmt.Errorf("apply %s: %w", ref, err)
	}
	if err != nil {
		info.Status, info.Reason = api.MigrationStatusFailed, err.Error()
		return info, nil
	}
	if !known {
		undo[ref.String()] = applied
	}
	return info, nil
}

// outside says why an object is not the pair's to bring.
func (x *run) outside(ref workload.Ref) string {
	namespace := ref.Namespace
	if ref.Group == "" && ref.Kind == "Namespace" {
		namespace = ref.Name
	}
	if namespace == "" {
		return "a pair of namespaces cannot bring cluster-scoped objects"
	}
	if err := x.peer.Scope.Covers(namespace); err != nil {
		return err.Error()
	}
	return ""
}

func (x *run) undoName() string { return "undo-" + x.s.Name }

func (x *run) loadUndo(ctx context.Context) (map[string]workload.Applied, error) {
	undo := map[string]workload.Applied{}
	var s corev1.Secret
	err := x.Live.Get(ctx, types.NamespacedName{Namespace: x.Namespace, Name: x.undoName()}, &s)
	if apierrors.IsNotFound(err) {
		return undo, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read how to undo Standby %s: %w", x.s.Name, err)
	}
	if err := json.Unmarshal(s.Data["applied"], &undo); err != nil {
		return nil, fmt.Errorf("read how to undo Standby %s: %w", x.s.Name, err)
	}
	return undo, nil
}

// saveUndo keeps the records in a Secret, since what they put back may be one.
func (x *run) saveUndo(ctx context.Context, undo map[string]workload.Applied) error {
	data, err := json.Marshal(undo)
	if err != nil {
		return fmt.Errorf("keep how to undo Standby %s: %w", x.s.Name, err)
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: x.Namespace, Name: x.undoName()}}
	_, err = controllerutil.CreateOrUpdate(ctx, x.Client, s, func() error {
		s.Labels = x.labels()
		s.Data = map[string][]byte{"applied": data}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep how to undo Standby %s: %w", x.s.Name, err)
	}
	return nil
}

func (x *run) deleteUndo(ctx context.Context) error {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: x.Namespace, Name: x.undoName()}}
	if err := x.Client.Delete(ctx, s); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete how to undo Standby %s: %w", x.s.Name, err)
	}
	return nil
}
