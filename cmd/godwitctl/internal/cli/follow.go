package cli

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// retryEvery is the pause between two tries to reach an API server that went away.
const retryEvery = 2 * time.Second

// change is an object as it now is, or was when it was removed.
type change struct {
	object  client.Object
	removed bool
}

// follower gives every object of a list, and from then on every change to one.
// It outlives an API server that restarts: it lists anew and gives what changed.
type follower struct {
	client client.WithWatch
	kind   kind
	opts   []client.ListOption
	// each says that it has seen enough.
	each func(change) (enough bool, err error)
	// notice is told once that the cluster does not answer.
	notice func(error) error
	known  map[client.ObjectKey]client.Object
	// broken is what each returned, which is not the cluster's fault.
	broken error
}

// run ends without error when each has seen enough or ctx ends.
func (f *follower) run(ctx context.Context) error {
	f.known = map[client.ObjectKey]client.Object{}
	reached, noticed := false, false
	for {
		version, enough, err := f.load(ctx)
		if err == nil {
			reached, noticed = true, false
			if !enough {
				enough, err = f.stream(ctx, version)
			}
		}
		switch {
		case f.broken != nil:
			return f.broken
		case enough || ctx.Err() != nil:
			return nil
		case err != nil && (!reached || final(err)):
			return err
		case err != nil && !noticed:
			noticed = true
			if err := f.notice(err); err != nil {
				return err
			}
		}
		if !pause(ctx, retryEvery) {
			return nil
		}
	}
}

// final tells the errors that asking again does not cure. All others, such as
// those of a server that restarts, do pass.
func final(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || unknownKind(err) || apierrors.IsBadRequest(err)
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// load lists, gives what is new or changed or gone, and returns where to go on.
func (f *follower) load(ctx context.Context) (version string, enough bool, err error) {
	list := f.kind.list()
	if err := f.client.List(ctx, list, f.opts...); err != nil {
		return "", false, err
	}
	objs, err := objects(list)
	if err != nil {
		return "", false, err
	}
	there := map[client.ObjectKey]bool{}
	for _, obj := range objs {
		there[client.ObjectKeyFromObject(obj)] = true
		if enough, err := f.give(change{object: obj}); enough || err != nil {
			return "", enough, err
		}
	}
	for key, obj := range f.known {
		if there[key] {
			continue
		}
		if enough, err := f.give(change{object: obj, removed: true}); enough || err != nil {
			return "", enough, err
		}
	}
	return list.GetResourceVersion(), false, nil
}

// stream gives changes until the server closes the watch, as it does at times.
func (f *follower) stream(ctx context.Context, version string) (enough bool, err error) {
	from := &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: version}}
	w, err := f.client.Watch(ctx, f.kind.list(), append([]client.ListOption{from}, f.opts...)...)
	if err != nil {
		return false, err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		if event.Type == watch.Bookmark {
			continue
		}
		obj, ok := event.Object.(client.Object)
		if !ok {
			// An error event: the list is too old to go on from.
			return false, nil
		}
		if enough, err := f.give(change{object: obj, removed: event.Type == watch.Deleted}); enough || err != nil {
			return enough, err
		}
	}
	return false, nil
}

// give passes a change on unless it was given before.
func (f *follower) give(c change) (enough bool, err error) {
	key := client.ObjectKeyFromObject(c.object)
	before, seen := f.known[key]
	if seen && !c.removed && before.GetResourceVersion() == c.object.GetResourceVersion() {
		return false, nil
	}
	if c.removed {
		delete(f.known, key)
	} else {
		f.known[key] = c.object
	}
	enough, f.broken = f.each(c)
	return enough, f.broken
}

// objects takes a list apart.
func objects(list client.ObjectList) ([]client.Object, error) {
	items, err := meta.ExtractList(list)
	if err != nil {
		return nil, fmt.Errorf("take list apart: %w", err)
	}
	objs := make([]client.Object, 0, len(items))
	for _, item := range items {
		obj, ok := item.(client.Object)
		if !ok {
			return nil, fmt.Errorf("take list apart: %T is no object", item)
		}
		objs = append(objs, obj)
	}
	return objs, nil
}
