package cli

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/liggitt/tabwriter"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// tabular reports whether the output is a table, and not the objects themselves.
func (s *session) tabular() bool { return s.output == "table" || s.output == "wide" }

// print writes objects in the format that was asked for; one as itself, if the
// user named just that one, and else as a list.
func (s *session) print(k kind, objs []client.Object, one bool) error {
	if s.tabular() {
		if len(objs) == 0 {
			return s.out("No resources found.")
		}
		t, err := k.layout.Table(objs, time.Now())
		if err != nil {
			return err
		}
		return s.tables().PrintObj(t, s.env.Streams.Out)
	}
	if one && len(objs) == 1 {
		return s.printObject(objs[0])
	}
	list := &corev1.List{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("List"))
	list.Items = []runtime.RawExtension{}
	for _, obj := range objs {
		if err := prepare(obj); err != nil {
			return err
		}
		list.Items = append(list.Items, runtime.RawExtension{Object: obj})
	}
	return s.objects().PrintObj(list, s.env.Streams.Out)
}

// printObject writes one object as JSON or YAML.
func (s *session) printObject(obj client.Object) error {
	if err := prepare(obj); err != nil {
		return err
	}
	return s.objects().PrintObj(obj, s.env.Streams.Out)
}

// prepare gives an object its kind, which the client leaves out, and takes away
// what no reader wants.
func prepare(obj client.Object) error {
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	gvk, err := apiutil.GVKForObject(obj, scheme)
	if err != nil {
		return fmt.Errorf("name the kind of %s: %w", obj.GetName(), err)
	}
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	obj.SetManagedFields(nil)
	redact(obj)
	return nil
}

// redact takes secrets out of what is shown; kubectl shows them to who may see
// them. What kubectl keeps of the last apply repeats them, and goes too.
func redact(obj client.Object) {
	const redacted = "[redacted]"
	switch o := obj.(type) {
	case *api.ClusterPair:
		if o.Spec.Options[api.OptionToken] == "" {
			return
		}
		o.Spec.Options[api.OptionToken] = redacted
	case *api.BackupLocation:
		if o.Location.S3Config == nil || o.Location.S3Config.SecretAccessKey == "" {
			return
		}
		o.Location.S3Config.SecretAccessKey = redacted
	default:
		return
	}
	annotations := obj.GetAnnotations()
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	obj.SetAnnotations(annotations)
}

func (s *session) objects() printers.ResourcePrinter {
	if s.output == "json" {
		return &printers.JSONPrinter{}
	}
	return &printers.YAMLPrinter{}
}

func (s *session) tables() printers.ResourcePrinter {
	return printers.NewTablePrinter(printers.PrintOptions{WithNamespace: s.allNamespaces, Wide: s.output == "wide"})
}

// printer writes objects one after the other, as they change.
type printer struct {
	session *session
	kind    kind
	rows    printers.ResourcePrinter
	writer  *tabwriter.Writer
	last    map[client.ObjectKey][]any
	others  printers.ResourcePrinter
}

func (s *session) newPrinter(k kind) *printer {
	return &printer{
		session: s, kind: k, last: map[client.ObjectKey][]any{},
		rows: s.tables(), writer: printers.GetNewTabWriter(s.env.Streams.Out), others: s.objects(),
	}
}

// changed writes the object unless its row would be the same as before.
func (p *printer) changed(obj client.Object, now time.Time) error {
	if !p.session.tabular() {
		if err := prepare(obj); err != nil {
			return err
		}
		return p.others.PrintObj(obj, p.session.env.Streams.Out)
	}
	t, err := p.kind.layout.Table([]client.Object{obj}, now)
	if err != nil {
		return err
	}
	key := client.ObjectKeyFromObject(obj)
	if reflect.DeepEqual(p.last[key], t.Rows[0].Cells) {
		return nil
	}
	p.last[key] = append([]any(nil), t.Rows[0].Cells...)
	if err := p.rows.PrintObj(t, p.writer); err != nil {
		return err
	}
	return p.writer.Flush()
}

// columns prints lines under each other.
func (s *session) columns(lines [][]string) error {
	w := tabwriter.NewWriter(s.env.Streams.Out, 0, 8, 3, ' ', 0)
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, strings.Join(line, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}
