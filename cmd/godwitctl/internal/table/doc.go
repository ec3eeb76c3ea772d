// Package table owns how Godwit's objects look as rows of a table.
//
// Its words: a layout is the columns of one kind and the cells of one object.
// Columns without priority are storkctl's, name by name, so that scripts which
// read its tables go on to work; columns of priority 1 are shown with -o wide.
// It never talks to a cluster and never prints.
package table

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// none stands in a cell that has nothing to tell.
const none = "N/A"

// Layout is the columns of one kind and the cells of one object of it.
type Layout struct {
	Columns []metav1.TableColumnDefinition
	// Cells gives one value for each column, as things stand at now.
	Cells func(obj client.Object, now time.Time) ([]any, error)
}

// Table lays objs out, as things stand at now.
func (l Layout) Table(objs []client.Object, now time.Time) (*metav1.Table, error) {
	t := &metav1.Table{ColumnDefinitions: l.Columns}
	for _, obj := range objs {
		cells, err := l.Cells(obj, now)
		if err != nil {
			return nil, fmt.Errorf("lay out %s: %w", client.ObjectKeyFromObject(obj), err)
		}
		t.Rows = append(t.Rows, metav1.TableRow{
			Cells:  cells,
			Object: runtime.RawExtension{Object: obj},
		})
	}
	return t, nil
}

// cells lifts a function for one kind to all objects; any other kind is an error.
func cells[T client.Object](of func(T, time.Time) []any) func(client.Object, time.Time) ([]any, error) {
	return func(obj client.Object, now time.Time) ([]any, error) {
		t, ok := obj.(T)
		if !ok {
			return nil, fmt.Errorf("the table is not made for %T", obj)
		}
		return of(t, now), nil
	}
}

// columns names the columns that are always shown, then those of -o wide.
func columns(always, wide []string) []metav1.TableColumnDefinition {
	defs := make([]metav1.TableColumnDefinition, 0, len(always)+len(wide))
	for _, name := range always {
		defs = append(defs, metav1.TableColumnDefinition{Name: name, Type: "string"})
	}
	for _, name := range wide {
		defs = append(defs, metav1.TableColumnDefinition{Name: name, Type: "string", Priority: 1})
	}
	return defs
}

// created is the time of creation as storkctl writes it.
func created(obj client.Object) string { return moment(ptr(obj.GetCreationTimestamp())) }

func ptr[T any](v T) *T { return &v }

func moment(t *metav1.Time) string {
	if t.IsZero() {
		return none
	}
	return t.Format(time.RFC822)
}

// ready is the status and message of the condition that says whether obj works.
func ready(conditions []metav1.Condition, kind string) (status, message string) {
	for _, c := range conditions {
		if c.Type == kind {
			return string(c.Status), c.Message
		}
	}
	return "Unknown", ""
}
