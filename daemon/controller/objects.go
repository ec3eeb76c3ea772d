package controller

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// An application is made of objects of any kind: to collect them they are read.
//
// +kubebuilder:rbac:groups="*",resources="*",verbs=get;list

const (
	// pieceSize keeps a Secret below what the API server takes.
	pieceSize   = 900 << 10
	keyPiece    = "objects.yaml.gz"
	keyPieces   = "pieces"
	maxUnpacked = 1 << 30
)

// collectObjects reads the application's objects as soon as the snapshots are
// cut, and keeps them until the round is sealed: hours later they may be others.
func (x *run) collectObjects(ctx context.Context) error {
	objects, err := x.collect(ctx)
	if err != nil {
		return err
	}
	if err := x.keepObjects(ctx, objects); err != nil {
		return err
	}
	x.mark(conditionSnapshotted, "Snapshotted", fmt.Sprintf("%d volumes and the objects are of %s",
		len(x.m.Status.Volumes), x.Now().UTC().Format("2006-01-02T15:04:05Z")))
	return nil
}

func (x *run) pieceKey(i int) types.NamespacedName {
	return types.NamespacedName{Namespace: x.Namespace, Name: fmt.Sprintf("objects-%s-%d", x.m.UID, i)}
}

// keepObjects puts them into Secrets, since there are Secrets among them. The
// first piece is written last: where it is, all are.
func (x *run) keepObjects(ctx context.Context, objects []byte) error {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := w.Write(objects)
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("pack the objects of %s: %w", x.application(), err)
	}
	data := packed.Bytes()
	pieces := (len(data) + pieceSize - 1) / pieceSize
	for i := pieces - 1; i >= 0; i-- {
		key := x.pieceKey(i)
		s := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: map[string]string{
				labelOwner: string(x.m.UID), labelManaged: managedBy,
			}},
			Data: map[string][]byte{
				keyPiece: data[i*pieceSize : min((i+1)*pieceSize, len(data))], keyPieces: []byte(strconv.Itoa(pieces)),
			},
		}
		err := x.Client.Create(ctx, s)
		if apierrors.IsAlreadyExists(err) {
			err = x.Client.Update(ctx, s)
		}
		if err != nil {
			return fmt.Errorf("keep the objects of %s in Secret %s: %w", x.application(), key, err)
		}
	}
	return nil
}

// keptObjects gives the objects back, all or none.
func (x *run) keptObjects(ctx context.Context) ([]byte, error) {
	var packed bytes.Buffer
	pieces := 1
	for i := 0; i < pieces; i++ {
		var s corev1.Secret
		key := x.pieceKey(i)
		err := x.Client.Get(ctx, key, &s)
		if apierrors.IsNotFound(err) {
			return nil, final("ObjectsGone", "the objects that were collected with the snapshots are gone (Secret %s): start a new Migration", key)
		}
		if err != nil {
			return nil, fmt.Errorf("read the objects of %s in Secret %s: %w", x.application(), key, err)
		}
		if pieces, err = strconv.Atoi(string(s.Data[keyPieces])); err != nil {
			return nil, final("ObjectsGone", "Secret %s was changed: start a new Migration", key)
		}
		packed.Write(s.Data[keyPiece])
	}
	r, err := gzip.NewReader(&packed)
	if err != nil {
		return nil, final("ObjectsGone", "the collected objects of %s cannot be unpacked (%w): start a new Migration", x.application(), err)
	}
	objects, err := io.ReadAll(io.LimitReader(r, maxUnpacked))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, final("ObjectsGone", "the collected objects of %s cannot be unpacked (%w): start a new Migration", x.application(), err)
	}
	return objects, nil
}

// dropObjects deletes the pieces, the first one last, so that a drop that was cut
// short still finds how many there are.
func (x *run) dropObjects(ctx context.Context) error {
	var first corev1.Secret
	err := x.Client.Get(ctx, x.pieceKey(0), &first)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the objects of %s: %w", x.application(), err)
	}
	pieces, err := strconv.Atoi(string(first.Data[keyPieces]))
	if err != nil {
		pieces = 1
	}
	for i := pieces - 1; i >= 0; i-- {
		key := x.pieceKey(i)
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
		if err := x.Client.Delete(ctx, s); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete Secret %s: %w", key, err)
		}
	}
	return nil
}
