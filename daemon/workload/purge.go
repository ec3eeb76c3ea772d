package workload

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// PurgeOptions says what an earlier run brought.
type PurgeOptions struct {
	ApplyOptions
	// Namespaces of this cluster.
	Namespaces []string
	// MigrationName and MigrationNamespace are on what may go, beside the Owner.
	MigrationName, MigrationNamespace string
}

// Purge deletes what an earlier run of the same Migration brought into the
// namespaces, and which is not to be kept. Accounts and claims stay, since others
// may have come to need them, and so does what controllers make.
func Purge(ctx context.Context, c Cluster, keep []Ref, o PurgeOptions, j Journal) ([]Applied, error) {
	kept := make(map[Ref]bool, len(keep))
	for _, ref := range keep {
		kept[withoutVersion(ref)] = true
	}
	found, err := served(c.Discovery, wish{})
	if err != nil {
		return nil, err
	}
	wanted, _ := sift(found, wish{optional: []string{"job"}})
	objects, _, err := readAll(ctx, c.Dynamic, wanted, o.Namespaces, "")
	if err != nil {
		return nil, err
	}
	v := newView(Selection{Namespaces: o.Namespaces, IncludeNetworkPolicyWithCIDR: true}, objects)
	var done []Applied
	for i := range v.objects {
		obj := &v.objects[i]
		if kept[withoutVersion(RefOf(obj))] || v.leavesOut(i) != nil || !o.brought(obj) {
			continue
		}
		record := Applied{Ref: RefOf(obj), Action: Deleted, Manager: o.FieldManager, Owner: o.Owner, Before: obj}
		if err := j.Intend(ctx, []Applied{record}); err != nil {
			return done, err
		}
		resource, err := resourceOf(c, record.Ref)
		if err == nil {
			err = deleteAsSeen(ctx, resource, obj)
		}
		if err != nil {
			return done, fmt.Errorf("purge %s: %w", record.Ref, err)
		}
		done = append(done, record)
	}
	return done, nil
}

func withoutVersion(ref Ref) Ref {
	ref.Version = ""
	return ref
}

// brought tells what the same Migration wrote before.
func (o PurgeOptions) brought(obj *unstructured.Unstructured) bool {
	if isKind(obj, "", "ServiceAccount") || isKind(obj, "", "PersistentVolumeClaim") {
		return false
	}
	annotations := obj.GetAnnotations()
	return annotations[AnnotationMigrated] == "true" && annotations[AnnotationOwner] == o.Owner && o.Owner != "" &&
		annotations[AnnotationMigrationName] == o.MigrationName && annotations[AnnotationMigrationNamespace] == o.MigrationNamespace
}

// Disputes lists the objects that stand on the cluster with fields that others
// own, where such conflicts are to be resolved by Abort. It writes nothing.
func Disputes(ctx context.Context, c Cluster, objects []unstructured.Unstructured, o ApplyOptions) ([]error, error) {
	var disputes []error
	for len(objects) > 0 {
		n := min(batchSize, len(objects))
		looks := lookAt(ctx, c, objects[:n])
		each(looks, func(l *look) {
			if l.err == nil {
				_, l.err = o.decide(ctx, l.resource, l.obj, l.live)
			}
		})
		for _, l := range looks {
			var dispute *DisputeError
			switch {
			case errors.As(l.err, &dispute):
				disputes = append(disputes, dispute)
			case Retryable(l.err) && !absent(l.err):
				return nil, l.err
			}
		}
		objects = objects[n:]
	}
	return disputes, nil
}
