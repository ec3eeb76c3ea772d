package workload

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	yamlstream "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// Encode writes the objects as a YAML stream. The same objects give the same
// bytes, so that a store keeps unchanged ones once.
func Encode(objects []unstructured.Unstructured) ([]byte, error) {
	var out bytes.Buffer
	for i := range objects {
		document, err := encodeOne(objects[i].Object)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", RefOf(&objects[i]), err)
		}
		out.WriteString("---\n")
		out.Write(document)
	}
	return out.Bytes(), nil
}

// encodeOne writes readable YAML where YAML can hold the object. Kubernetes allows
// characters in strings that YAML allows only as escapes; such an object is written
// as JSON with these escaped, which is YAML too.
func encodeOne(object map[string]any) ([]byte, error) {
	document, err := yaml.Marshal(object)
	if err == nil {
		return document, nil
	}
	asJSON, jsonErr := json.Marshal(object)
	if jsonErr != nil {
		return nil, errors.Join(err, jsonErr)
	}
	var out bytes.Buffer
	for _, r := range string(asJSON) {
		if r >= 0x7f && r <= 0x9f || r == 0xfffe || r == 0xffff {
			fmt.Fprintf(&out, `\u%04x`, r)
			continue
		}
		out.WriteRune(r)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// Decode reads what Encode wrote, or what a user wrote in its place. Empty
// documents are passed over; any other document must be one whole object.
func Decode(data []byte) ([]unstructured.Unstructured, error) {
	reader := yamlstream.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	var out []unstructured.Unstructured
	for n := 1; ; n++ {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("decode objects: document %d: %w", n, err)
		}
		obj, err := decodeOne(document)
		if err != nil {
			return nil, fmt.Errorf("decode objects: document %d: %w", n, err)
		}
		if obj != nil {
			out = append(out, *obj)
		}
	}
}

func decodeOne(document []byte) (*unstructured.Unstructured, error) {
	asJSON, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		// YAML bars keys of more than 1024 characters on one line, which JSON
		// allows. A key that comes twice is wrong in both.
		document = bytes.TrimPrefix(document, []byte("---\n"))
		if !json.Valid(document) || strings.Contains(err.Error(), "already set") {
			return nil, err
		}
		asJSON = document
	}
	if string(bytes.TrimSpace(asJSON)) == "null" {
		return nil, nil
	}
	obj := &unstructured.Unstructured{}
	if err := obj.UnmarshalJSON(asJSON); err != nil {
		return nil, err
	}
	if obj.GetAPIVersion() == "" || obj.GetName() == "" {
		return nil, errors.New("the object lacks its apiVersion or name")
	}
	return obj, nil
}
