package workload

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// Instructions is what a Migration says about its objects. They travel in front of
// the objects, sealed with them, so that the target needs nothing else from the
// source.
type Instructions struct {
	StartApplications bool `json:"startApplications,omitempty"`
	// Namespaces and StorageClasses rename; what they do not name stays as it is.
	Namespaces     map[string]string `json:"namespaces,omitempty"`
	StorageClasses map[string]string `json:"storageClasses,omitempty"`
	// RewriteServiceNames follows Namespaces into DNS names.
	RewriteServiceNames bool `json:"rewriteServiceNames,omitempty"`
	// SkipServiceUpdate keeps the addresses and node ports of Services.
	SkipServiceUpdate bool                 `json:"skipServiceUpdate,omitempty"`
	Transformations   []Transformation     `json:"transformations,omitempty"`
	Modifiers         []Document           `json:"modifiers,omitempty"`
	Overrides         []api.ObjectOverride `json:"overrides,omitempty"`
	// Registrations say how custom resources are held, beside those built in.
	Registrations []api.ApplicationResource `json:"registrations,omitempty"`
	Conflicts     Conflicts                 `json:"conflicts,omitempty"`
	// Purge deletes what an earlier run of the same Migration's pair brought into
	// these namespaces of the source, and the source no longer has.
	Purge []string `json:"purge,omitempty"`
	// Forget takes back what was applied when the Migration is deleted.
	Forget bool `json:"forget,omitempty"`
}

// Transformation is a ResourceTransformation for the objects of its namespace.
type Transformation struct {
	Namespace string                         `json:"namespace"`
	Name      string                         `json:"name"`
	Spec      api.ResourceTransformationSpec `json:"spec"`
}

// Document is a text and where it stands.
type Document struct {
	Origin string `json:"origin"`
	Text   string `json:"text"`
}

const (
	instructionsVersion = "godwit.io/v1alpha1"
	instructionsKind    = "Instructions"
	// largestPack bounds what a peer can make this cluster hold in memory.
	largestPack = 128 << 20
)

// Pack encodes the instructions and the objects as one YAML stream.
func Pack(i Instructions, objects []unstructured.Unstructured) ([]byte, error) {
	data, err := json.Marshal(i)
	if err != nil {
		return nil, fmt.Errorf("encode what is to be done with the objects: %w", err)
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, fmt.Errorf("encode what is to be done with the objects: %w", err)
	}
	head := unstructured.Unstructured{Object: map[string]any{
		"apiVersion": instructionsVersion, "kind": instructionsKind,
		"metadata": map[string]any{"name": "round"}, "spec": spec,
	}}
	first, err := Encode([]unstructured.Unstructured{head})
	if err != nil {
		return nil, err
	}
	rest, err := Encode(objects)
	if err != nil {
		return nil, err
	}
	return append(first, rest...), nil
}

// Unpack reads what Pack wrote. Objects without instructions are moved as they are.
func Unpack(data []byte) (Instructions, []unstructured.Unstructured, error) {
	var i Instructions
	objects, err := Decode(data)
	if err != nil {
		return i, nil, err
	}
	if len(objects) == 0 || objects[0].GetAPIVersion() != instructionsVersion || objects[0].GetKind() != instructionsKind {
		return i, objects, nil
	}
	spec, err := json.Marshal(objects[0].Object["spec"])
	if err != nil {
		return i, nil, fmt.Errorf("read what is to be done with the objects: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(spec))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&i); err != nil {
		return i, nil, fmt.Errorf("read what is to be done with the objects: %w: run the same version of Godwit on both clusters", err)
	}
	return i, objects[1:], nil
}

// Compress makes what goes over the wire small.
func Compress(data []byte) ([]byte, error) {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(data)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("compress objects: %w", err)
	}
	return out.Bytes(), nil
}

// Expand reads what Compress wrote.
func Expand(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("expand objects: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(r, largestPack+1))
	if err != nil {
		return nil, fmt.Errorf("expand objects: %w", err)
	}
	if len(out) > largestPack {
		return nil, fmt.Errorf("expand objects: there is more than %d MiB of them: move fewer namespaces at once", largestPack>>20)
	}
	return out, nil
}
