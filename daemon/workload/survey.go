package workload

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sort"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// SurveyOptions says how a survey looks.
type SurveyOptions struct {
	ApplyOptions
	// TrialNamespace is where objects of namespaces that are not there yet are
	// tried; nothing is written to it.
	TrialNamespace string
	// Defined tells that a kind comes with the round.
	Defined func(Ref) bool
}

// Outlook is what would become of one object.
type Outlook struct {
	Ref    Ref    `json:"ref"`
	From   Ref    `json:"from"`
	Action Action `json:"action,omitempty"`
	// Reason is for what the pair may not bring.
	Reason string `json:"reason,omitempty"`
	// Problem says why the object could not be applied.
	Problem string `json:"problem,omitempty"`
	// Changes are from what stands there to what would; of a new object, none.
	Changes []Change `json:"changes,omitempty"`
	// By names users' rules, Rewritten followed references.
	By        []string `json:"by,omitempty"`
	Rewritten []string `json:"rewritten,omitempty"`
}

// Plan is what would happen on the target.
type Plan struct {
	Objects  []Outlook `json:"objects,omitempty"`
	LeftOut  []Skipped `json:"leftOut,omitempty"`
	Lacks    []Lack    `json:"lacks,omitempty"`
	Images   []Image   `json:"images,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
}

// Change is one field. Secrets' values are not told.
type Change struct {
	Path string `json:"path"`
	Old  any    `json:"old,omitempty"`
	New  any    `json:"new,omitempty"`
}

// Survey finds out, by dry runs, what applying the objects would do. It writes
// nothing.
func Survey(ctx context.Context, c Cluster, objects []Moved, o SurveyOptions) ([]Outlook, error) {
	out := make([]Outlook, 0, len(objects))
	for len(objects) > 0 {
		n := min(batchSize, len(objects))
		batch := make([]unstructured.Unstructured, 0, n)
		for i := range objects[:n] {
			batch = append(batch, objects[i].Unstructured)
		}
		looks := lookAt(ctx, c, batch)
		each(looks, func(l *look) { l.survey(ctx, c, o) })
		for i, l := range looks {
			outlook := Outlook{Ref: RefOf(l.obj), From: objects[i].From, By: objects[i].By, Rewritten: objects[i].Rewritten}
			switch {
			case l.err != nil && Retryable(l.err) && !absent(l.err):
				return nil, l.err
			case l.err != nil:
				outlook.Problem = l.err.Error()
				if len(outlook.By) > 0 && (isMalformed(l.err) || apierrors.IsBadRequest(l.err)) {
					outlook.Problem += " (changed by " + strings.Join(outlook.By, ", ") + ")"
				}
			default:
				outlook.Action = l.intent.record.Action
				outlook.Changes = changesOf(l.intent)
			}
			out = append(out, outlook)
		}
		objects = objects[n:]
	}
	return out, nil
}

// absent tells of what is not there, which waiting does not mend in a survey.
func absent(err error) bool {
	return apierrors.IsNotFound(err) || errors.Is(err, ErrBeingDeleted) || isNoMatch(err)
}

func (l *look) survey(ctx context.Context, c Cluster, o SurveyOptions) {
	if l.err != nil {
		if isNoMatch(l.err) && o.Defined != nil && o.Defined(RefOf(l.obj)) {
			l.err = nil
			l.intent.record.Action = Created
		}
		return
	}
	if l.intent, l.err = o.decide(ctx, l.resource, l.obj, l.live); l.err != nil || l.intent.record.Action != Created {
		var dispute *DisputeError
		if l.err != nil && !errors.As(l.err, &dispute) {
			l.err = fmt.Errorf("%s: %w", RefOf(l.obj), l.err)
		}
		return
	}
	err := tryCreate(ctx, c, l, o)
	if err != nil {
		l.err = fmt.Errorf("%s: %w", RefOf(l.obj), err)
	}
}

// tryCreate is a dry run of a create, in another namespace if the object's own is
// not there yet.
func tryCreate(ctx context.Context, c Cluster, l *look, o SurveyOptions) error {
	options := metav1.ApplyOptions{FieldManager: o.FieldManager, Force: true, DryRun: []string{metav1.DryRunAll}}
	_, err := l.resource.Apply(ctx, l.obj.GetName(), l.intent.patch, options)
	if apierrors.IsNotFound(err) && l.obj.GetNamespace() != "" && o.TrialNamespace != "" {
		trial := l.intent.patch.DeepCopy()
		trial.SetNamespace(o.TrialNamespace)
		trial.SetResourceVersion("")
		ref := RefOf(trial)
		resource, mapErr := resourceOf(c, ref)
		if mapErr != nil {
			return mapErr
		}
		_, err = resource.Apply(ctx, trial.GetName(), trial, options)
		if disputes := disputesIn(err); len(disputes) > 0 || apierrors.IsForbidden(err) {
			return nil // Another object, or other limits: they say nothing about this one.
		}
	}
	if unserved(err) && o.Defined != nil && o.Defined(RefOf(l.obj)) {
		return nil // Its definition was here once, as the mapper remembers, and comes along.
	}
	if apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "dryRun") {
		return nil
	}
	return err
}

func changesOf(i intent) []Change {
	if i.would == nil || i.live == nil {
		return nil
	}
	var out []Change
	secret := isKind(i.live, "", "Secret")
	compare("", visible(i.live), visible(i.would), func(path string, old, now any) {
		if secret && (strings.HasPrefix(path, "data") || strings.HasPrefix(path, "stringData")) {
			old, now = "(hidden)", "(hidden)"
		}
		out = append(out, Change{Path: path, Old: old, New: now})
	})
	sort.Slice(out, func(a, b int) bool { return out[a].Path < out[b].Path })
	return out
}

// visible leaves out what only tells of the run itself.
func visible(obj *unstructured.Unstructured) map[string]any {
	out := make(map[string]any, len(obj.Object))
	for key, value := range obj.Object {
		if key != "metadata" && key != "status" {
			out[key] = value
		}
	}
	annotations := make(map[string]any)
	for key, value := range obj.GetAnnotations() {
		switch key {
		case AnnotationOwner, AnnotationHash, AnnotationMigrated, annotationLastApplied:
			continue
		}
		if !stampKey(key) {
			annotations[key] = value
		}
	}
	labels := make(map[string]any)
	for key, value := range obj.GetLabels() {
		labels[key] = value
	}
	out["metadata"] = map[string]any{"labels": labels, "annotations": annotations}
	return out
}

func compare(path string, a, b any, told func(path string, old, now any)) {
	left, leftMap := a.(map[string]any)
	right, rightMap := b.(map[string]any)
	if leftMap && rightMap {
		keys := make(map[string]bool)
		for key := range left {
			keys[key] = true
		}
		for key := range right {
			keys[key] = true
		}
		for key := range keys {
			at := key
			if path != "" {
				at = path + "." + key
			}
			compare(at, left[key], right[key], told)
		}
		return
	}
	leftItems, leftList := a.([]any)
	rightItems, rightList := b.([]any)
	if leftList && rightList && len(leftItems) == len(rightItems) {
		for i := range leftItems {
			compare(fmt.Sprintf("%s[%d]", path, i), leftItems[i], rightItems[i], told)
		}
		return
	}
	if !reflect.DeepEqual(a, b) {
		told(path, a, b)
	}
}
