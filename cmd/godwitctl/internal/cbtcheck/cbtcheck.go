// Package cbtcheck checks the changed blocks of a storage in a real cluster: it
// is the cbt.Bench whose scratch volume is a claim, whose snapshots are
// VolumeSnapshots, and whose pods write, and ask the driver's sidecar from
// within the cluster, where it can be reached.
//
// All that it makes is in one namespace of its own, which it removes, with what
// its claim and its snapshots are in the storage. It touches nothing else.
package cbtcheck

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	metadatav1 "github.com/kubernetes-csi/external-snapshot-metadata/client/apis/snapshotmetadataservice/v1beta1"
	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	poll = 500 * time.Millisecond
	// account is who the pods ask as, claim and volume what they write.
	account = "asker"
	claim   = "scratch"
	// annotationDefault marks the VolumeSnapshotClass to take.
	annotationDefault = "snapshot.storage.kubernetes.io/is-default-class"
)

// Options say what to check.
type Options struct {
	StorageClass string
	// SnapshotClass may be empty for the driver's default.
	SnapshotClass string
	Size          resource.Quantity
	// Image has godwitd; empty takes that of Godwit's nodes in Home.
	Image string
	Home  string
	// Told is called with what is under way.
	Told func(format string, args ...any)
}

// Bench is a scratch volume in a cluster.
type Bench struct {
	options Options
	client  client.Client
	logs    kubernetes.Interface

	driver    string
	service   metadatav1.SnapshotMetadataService
	namespace string
	size      int64
	handles   []string
	pods      int
}

// Open looks whether the storage can be checked, and makes the scratch volume.
// Close removes it, also where Open failed half way.
func Open(ctx context.Context, config *rest.Config, o Options) (*Bench, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), appsv1.AddToScheme(scheme), rbacv1.AddToScheme(scheme), storagev1.AddToScheme(scheme),
		snapshotv1.AddToScheme(scheme), metadatav1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("register kinds: %w", err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("reach the cluster: %w", err)
	}
	logs, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("reach the cluster: %w", err)
	}
	b := &Bench{options: o, client: c, logs: logs}
	if err := b.look(ctx); err != nil {
		return nil, err
	}
	return b, b.prepare(ctx)
}

// Driver is the CSI driver's name.
func (b *Bench) Driver() string { return b.driver }

// SnapshotClass is the VolumeSnapshotClass that is used.
func (b *Bench) SnapshotClass() string { return b.options.SnapshotClass }

// Size is the scratch volume's.
func (b *Bench) Size() int64 { return b.size }

// look finds the classes, the sidecar and the image; nothing is made yet.
func (b *Bench) look(ctx context.Context) error {
	var class storagev1.StorageClass
	if err := b.get(ctx, "StorageClass", types.NamespacedName{Name: b.options.StorageClass}, &class); err != nil {
		return err
	}
	b.driver = class.Provisioner
	err := b.client.Get(ctx, types.NamespacedName{Name: b.driver}, &b.service)
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return fmt.Errorf("no SnapshotMetadataService is named %s: the driver tells nobody of changed blocks, or its external-snapshot-metadata sidecar is not deployed", b.driver)
	}
	if err != nil {
		return fmt.Errorf("read SnapshotMetadataService %s: %w", b.driver, err)
	}
	if err := b.snapshotClass(ctx); err != nil {
		return err
	}
	if b.options.Image != "" {
		return nil
	}
	var nodes appsv1.DaemonSetList
	if err := b.client.List(ctx, &nodes, client.InNamespace(b.options.Home), client.MatchingLabels{"app.kubernetes.io/component": "node"}); err != nil {
		return fmt.Errorf("find the image of Godwit's nodes in namespace %s: %w", b.options.Home, err)
	}
	if len(nodes.Items) == 0 {
		return fmt.Errorf("no DaemonSet of Godwit's nodes is in namespace %s to take the image from: give one with --image", b.options.Home)
	}
	b.options.Image = nodes.Items[0].Spec.Template.Spec.Containers[0].Image
	return nil
}

func (b *Bench) snapshotClass(ctx context.Context) error {
	var classes snapshotv1.VolumeSnapshotClassList
	if err := b.client.List(ctx, &classes); err != nil {
		return fmt.Errorf("list VolumeSnapshotClasses: %w", err)
	}
	fits := slices.DeleteFunc(classes.Items, func(c snapshotv1.VolumeSnapshotClass) bool {
		return c.Driver != b.driver || b.options.SnapshotClass != "" && c.Name != b.options.SnapshotClass
	})
	if len(fits) == 0 {
		return fmt.Errorf("no VolumeSnapshotClass %s is of driver %s", b.options.SnapshotClass, b.driver)
	}
	i := max(0, slices.IndexFunc(fits, func(c snapshotv1.VolumeSnapshotClass) bool { return c.Annotations[annotationDefault] == "true" }))
	b.options.SnapshotClass = fits[i].Name
	return nil
}

// prepare makes the namespace, who asks, and the claim.
func (b *Bench) prepare(ctx context.Context) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "godwit-cbt-check-", Labels: map[string]string{
		// Its pod writes to a raw device, which belongs to root.
		"pod-security.kubernetes.io/enforce": "baseline",
	}}}
	if err := b.client.Create(ctx, namespace); err != nil {
		return fmt.Errorf("create a namespace for the check: %w", err)
	}
	b.namespace = namespace.Name
	here := metav1.ObjectMeta{Namespace: b.namespace, Name: account}
	mode := corev1.PersistentVolumeBlock
	for _, obj := range []client.Object{
		&corev1.ServiceAccount{ObjectMeta: here},
		&rbacv1.Role{ObjectMeta: here, Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{snapshotv1.GroupName}, Resources: []string{"volumesnapshots"}, Verbs: []string{"get"},
		}}},
		&rbacv1.RoleBinding{
			ObjectMeta: here, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: b.namespace, Name: account}},
		},
		&corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: claim},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, VolumeMode: &mode, StorageClassName: &b.options.StorageClass,
				Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: b.options.Size}},
			},
		},
	} {
		if err := b.client.Create(ctx, obj); err != nil {
			return fmt.Errorf("create %T in namespace %s: %w", obj, b.namespace, err)
		}
	}
	b.options.Told("scratch volume of %s in namespace %s", b.options.Size.String(), b.namespace)
	b.size = b.options.Size.Value()
	return nil
}

func (b *Bench) get(ctx context.Context, kind string, key types.NamespacedName, obj client.Object) error {
	if err := b.client.Get(ctx, key, obj); err != nil {
		return fmt.Errorf("read %s %s: %w", kind, key.Name, err)
	}
	return nil
}

// until looks again and again until the condition holds; what it says is told
// where time runs out.
func (b *Bench) until(ctx context.Context, what string, holds func(context.Context) (done bool, waiting string, err error)) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		done, waiting, err := holds(ctx)
		if err == nil && done {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w; last seen: %s", what, context.Cause(ctx), waiting)
		case <-tick.C:
		}
	}
}

// Snapshot takes the next VolumeSnapshot and waits until it is ready.
func (b *Bench) Snapshot(ctx context.Context) error {
	name := snapshotName(len(b.handles))
	source := claim
	err := b.client.Create(ctx, &snapshotv1.VolumeSnapshot{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name},
		Spec: snapshotv1.VolumeSnapshotSpec{
			Source:                  snapshotv1.VolumeSnapshotSource{PersistentVolumeClaimName: &source},
			VolumeSnapshotClassName: &b.options.SnapshotClass,
		},
	})
	if err != nil {
		return fmt.Errorf("create VolumeSnapshot %s: %w", name, err)
	}
	b.options.Told("snapshot %d", len(b.handles))
	return b.until(ctx, "wait for VolumeSnapshot "+name, func(ctx context.Context) (bool, string, error) {
		handle, waiting, err := b.handle(ctx, name)
		if handle != "" {
			b.handles = append(b.handles, handle)
		}
		return handle != "", waiting, err
	})
}

func snapshotName(number int) string { return fmt.Sprint("snapshot-", number) }

// handle is the driver's name for a snapshot that is ready.
func (b *Bench) handle(ctx context.Context, name string) (handle, waiting string, err error) {
	var vs snapshotv1.VolumeSnapshot
	if err := b.get(ctx, "VolumeSnapshot", types.NamespacedName{Namespace: b.namespace, Name: name}, &vs); err != nil {
		return "", "", err
	}
	s := vs.Status
	switch {
	case s == nil || s.BoundVolumeSnapshotContentName == nil:
		return "", "it is not bound", nil
	case s.Error != nil && s.Error.Message != nil:
		waiting = *s.Error.Message
	}
	if s.ReadyToUse == nil || !*s.ReadyToUse {
		return "", waiting, nil
	}
	var content snapshotv1.VolumeSnapshotContent
	if err := b.get(ctx, "VolumeSnapshotContent", types.NamespacedName{Name: *s.BoundVolumeSnapshotContentName}, &content); err != nil {
		return "", "", err
	}
	if content.Status == nil || content.Status.SnapshotHandle == nil {
		return "", "it has no handle", nil
	}
	// Whatever the class says: this one goes with the check.
	if content.Spec.DeletionPolicy != snapshotv1.VolumeSnapshotContentDelete {
		patch := client.MergeFrom(content.DeepCopy())
		content.Spec.DeletionPolicy = snapshotv1.VolumeSnapshotContentDelete
		if err := b.client.Patch(ctx, &content, patch); err != nil {
			return "", "", fmt.Errorf("let VolumeSnapshotContent %s be deleted: %w", content.Name, err)
		}
	}
	return *content.Status.SnapshotHandle, "", nil
}
