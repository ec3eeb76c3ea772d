package workload

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"golang.org/x/sync/errgroup"

	"github.com/godwit-io/godwit/daemon/workload/shape"
)

const (
	// batchSize bounds how many objects are in the air, and in one journal entry.
	batchSize = 200
	// writesAtOnce stays inside what API priority and fairness grants one client.
	writesAtOnce = 16
	// worthListing is how many objects of a kind are listed rather than read singly.
	worthListing = 4
)

// Journal keeps how to undo a run. What it is told must last before it returns.
type Journal interface {
	// Intend is told of writes before they are made; After is not set yet.
	Intend(ctx context.Context, intents []Applied) error
	// Done is told of the same writes after they were made.
	Done(ctx context.Context, done []Applied) error
}

// Outcome is what became of one object of a wave.
type Outcome struct {
	Applied
	Err error
	// GaveUp tells what a Service had to be applied without.
	GaveUp []string
}

// ApplyWave writes the objects of one wave side by side. The outcomes are in the
// order of the objects; an error is the journal's, and ends the run.
func ApplyWave(ctx context.Context, c Cluster, objects []unstructured.Unstructured, o ApplyOptions, j Journal) ([]Outcome, error) {
	outcomes := make([]Outcome, 0, len(objects))
	for len(objects) > 0 {
		n := min(batchSize, len(objects))
		batch, err := applyBatch(ctx, c, objects[:n], o, j)
		if err != nil {
			return outcomes, err
		}
		outcomes, objects = append(outcomes, batch...), objects[n:]
	}
	return outcomes, nil
}

// look is one object of a batch with what stands there.
type look struct {
	obj      *unstructured.Unstructured
	resource dynamic.ResourceInterface
	live     *unstructured.Unstructured
	intent   intent
	gaveUp   []string
	err      error
}

func applyBatch(ctx context.Context, c Cluster, objects []unstructured.Unstructured, o ApplyOptions, j Journal) ([]Outcome, error) {
	looks := lookAt(ctx, c, objects)
	each(looks, func(l *look) {
		if l.err == nil {
			l.intent, l.err = o.decide(ctx, l.resource, l.obj, l.live)
		}
	})
	var intents []Applied
	for _, l := range looks {
		if l.err == nil && l.intent.record.Action.writes() {
			intents = append(intents, l.intent.record)
		}
	}
	if len(intents) > 0 {
		if err := j.Intend(ctx, intents); err != nil {
			return nil, err
		}
	}
	outcomes := make([]Outcome, len(looks))
	var mu sync.Mutex
	var done []Applied
	var journal error
	each(looks, func(l *look) {
		applied, err := l.carryOut(ctx, c, o, j)
		mu.Lock()
		defer mu.Unlock()
		if err == nil && applied.Action.writes() {
			done = append(done, applied)
		}
		applied.Ref = RefOf(l.obj)
		l.intent.record, l.err = applied, err
	})
	for i, l := range looks {
		outcomes[i] = Outcome{Applied: l.intent.record, Err: l.err, GaveUp: l.gaveUp}
	}
	if len(done) > 0 {
		journal = j.Done(ctx, done)
	}
	return outcomes, journal
}

// carryOut writes what was decided. If somebody wrote in between, or a Service has
// to do without an address, all is done again for this object alone, with a journal
// entry of its own.
func (l *look) carryOut(ctx context.Context, c Cluster, o ApplyOptions, j Journal) (Applied, error) {
	if l.err != nil {
		return Applied{}, l.err
	}
	applied, err := o.carryOut(ctx, l.resource, l.intent)
	if !apierrors.IsConflict(err) && !l.givesUp(err, o) {
		if err != nil {
			return Applied{}, fmt.Errorf("apply %s: %w", RefOf(l.obj), err)
		}
		return applied, nil
	}
	o.Record = func(ctx context.Context, intent Applied) error { return j.Intend(ctx, []Applied{intent}) }
	for {
		applied, err = Apply(ctx, c, *l.obj, o)
		if !l.givesUp(err, o) {
			return applied, err
		}
	}
}

// givesUp drops from the Service what the server refused, if that is what it
// refused.
func (l *look) givesUp(err error, o ApplyOptions) bool {
	if !o.GiveUpAddresses || !apierrors.IsInvalid(err) || !isKind(l.obj, "", "Service") || asked(l.obj.GetAnnotations(), "skip-modify-resource") {
		return false
	}
	dropped := dropRefused(RefOf(l.obj), shape.Child(l.obj.Object, "spec"), err)
	l.gaveUp = append(l.gaveUp, dropped...)
	return len(dropped) > 0
}

func each(looks []*look, do func(*look)) {
	var group errgroup.Group
	group.SetLimit(writesAtOnce)
	for _, l := range looks {
		group.Go(func() error {
			do(l)
			return nil
		})
	}
	// The functions keep their errors in the look.
	_ = group.Wait()
}

// lookAt reads what stands where the objects go: many of a kind in one list.
func lookAt(ctx context.Context, c Cluster, objects []unstructured.Unstructured) []*look {
	type place struct {
		kind      Ref
		namespace string
	}
	looks := make([]*look, len(objects))
	byPlace := make(map[place][]*look)
	for i := range objects {
		ref := RefOf(&objects[i])
		l := &look{obj: &objects[i]}
		if l.resource, l.err = resourceOf(c, ref); l.err != nil {
			l.err = fmt.Errorf("apply %s: %w", ref, l.err)
		}
		looks[i] = l
		at := place{kind: Ref{Group: ref.Group, Version: ref.Version, Kind: ref.Kind}, namespace: ref.Namespace}
		byPlace[at] = append(byPlace[at], l)
	}
	var many, single []*look
	groups := make(map[*look][]*look)
	for _, members := range byPlace {
		if len(members) >= worthListing {
			many = append(many, members[0])
			groups[members[0]] = members
			continue
		}
		single = append(single, members...)
	}
	each(many, func(first *look) { fillIn(ctx, groups[first]) })
	each(single, func(l *look) { l.read(ctx) })
	return looks
}

func (l *look) read(ctx context.Context) {
	if l.err != nil {
		return
	}
	if l.live, l.err = get(ctx, l.resource, l.obj.GetName()); l.err != nil {
		l.err = fmt.Errorf("apply %s: %w", RefOf(l.obj), l.err)
	}
}

// fillIn lists one kind in one namespace. Where that fails, each is read singly,
// and has its own error.
func fillIn(ctx context.Context, members []*look) {
	byName := make(map[string]*look, len(members))
	for _, l := range members {
		byName[l.obj.GetName()] = l
	}
	if members[0].err != nil {
		return
	}
	options := metav1.ListOptions{Limit: pageSize}
	for {
		page, err := members[0].resource.List(ctx, options)
		if err != nil {
			for _, l := range members {
				l.read(ctx)
			}
			return
		}
		for i := range page.Items {
			if l := byName[page.Items[i].GetName()]; l != nil {
				page.Items[i].SetGroupVersionKind(l.obj.GroupVersionKind())
				l.live = &page.Items[i]
			}
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return
		}
	}
}
