package target

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// claimsFree refuses to begin a hand-over to claims that are there already: another
// source's copy of the application may run with them. Nothing has been touched yet,
// so it goes on once they are gone.
func (x *run) claimsFree(ctx context.Context) error {
	for i := range x.s.Status.Volumes {
		v := &x.s.Status.Volumes[i]
		if v.Leaving || v.HandedOver {
			continue
		}
		var pvc corev1.PersistentVolumeClaim
		err := x.Live.Get(ctx, types.NamespacedName{Namespace: into(v), Name: v.Name}, &pvc)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read claim %s/%s: %w", into(v), v.Name, err)
		}
		return fmt.Errorf("claim %s/%s is on this cluster already, and is not this standby's: what uses it has to go, and it, before the volumes are handed over", into(v), v.Name)
	}
	return nil
}
