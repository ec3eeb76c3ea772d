package scenario

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	documents "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// Apply applies a manifest by server-side apply, as kubectl apply does: fields that are
// not known are refused, and one object that is refused keeps no other from being
// applied.
func (c Cluster) Apply(ctx context.Context, manifest []byte) error {
	var all error
	from := documents.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifest)))
	for {
		document, err := from.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err == nil {
			document, err = yaml.YAMLToJSON(document)
		}
		if err != nil {
			return errors.Join(all, fmt.Errorf("cluster %s: apply: %w", c.Name, err))
		}
		if err := c.reader.apply(ctx, document); err != nil {
			all = errors.Join(all, fmt.Errorf("cluster %s: apply: %w", c.Name, err))
		}
	}
}

// ApplyAsUser has kubectl apply what users wrote.
func (c Cluster) ApplyAsUser(ctx context.Context, manifest []byte) error {
	cmd := command{stdin: bytes.NewReader(manifest)}
	_, err := cmd.run(ctx, c.Program, c.args([]string{"apply", "--server-side", "--force-conflicts", "-f", "-"})...)
	if err != nil {
		return fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	return nil
}

// apply applies an object, or a List of them, as JSON.
func (r *reader) apply(ctx context.Context, object []byte) error {
	var o struct {
		metav1.PartialObjectMetadata
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(object, &o); err != nil {
		return err
	}
	if string(object) == "null" { // a document of comments alone
		return nil
	}
	if o.Kind == "List" {
		var all error
		for _, item := range o.Items {
			all = errors.Join(all, r.apply(ctx, item))
		}
		return all
	}
	objects, err := r.objects(o.GroupVersionKind(), cmp.Or(o.Namespace, metav1.NamespaceDefault))
	if err != nil {
		return err
	}
	force := true
	_, err = objects.Patch(ctx, o.Name, types.ApplyPatchType, object,
		metav1.PatchOptions{FieldManager: "kubectl", FieldValidation: metav1.FieldValidationStrict, Force: &force})
	if err != nil {
		return fmt.Errorf("%s %s/%s: %w", o.Kind, o.Namespace, o.Name, err)
	}
	return nil
}
