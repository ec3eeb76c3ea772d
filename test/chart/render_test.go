package chart

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// root is the repository's top folder.
func root(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// helmProgram builds Helm of the version that the repository pins, and says
// where it is: asking `go tool` each time would cost most of the tests' time.
var helmProgram = sync.OnceValues(func() (string, error) {
	for _, args := range [][]string{{"tool", "-modfile=.tools/helm/go.mod", "helm", "version"}, {"tool", "-n", "-modfile=.tools/helm/go.mod", "helm"}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = filepath.Join("..", "..")
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
		}
		if args[1] == "-n" {
			return strings.TrimSpace(string(out)), nil
		}
	}
	return "", errors.New("go tool says nothing of helm")
})

func helm(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	program, err := helmProgram()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = root(t)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// render renders the chart as release godwit, with more arguments for Helm.
func render(t *testing.T, args ...string) string {
	t.Helper()
	out, errOut, err := helm(t, append([]string{"template", "godwit", "deploy/chart", "--namespace", "godwit-system"}, args...)...)
	if err != nil {
		t.Fatalf("helm template %v: %v\n%s", args, err, errOut)
	}
	if errOut != "" {
		t.Errorf("helm template %v says: %s", args, errOut)
	}
	return out
}

// decode reads rendered objects into Kubernetes' types; a field that these do
// not have, or one that is there twice, fails the test.
func decode(t *testing.T, rendered string) []client.Object {
	t.Helper()
	codecs := serializer.NewCodecFactory(clientgoscheme.Scheme, serializer.EnableStrict)
	reader := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(rendered)))
	var objs []client.Object
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objs
		}
		if err != nil {
			t.Fatal(err)
		}
		if blank(doc) {
			continue
		}
		decoded, _, err := codecs.UniversalDeserializer().Decode(doc, nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		obj, ok := decoded.(client.Object)
		if !ok {
			t.Fatalf("%T is no object", decoded)
		}
		objs = append(objs, obj)
	}
}

func blank(doc []byte) bool {
	for _, line := range strings.Split(string(doc), "\n") {
		if line = strings.TrimSpace(line); line != "" && line != "---" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}

// find gives the objects of one type.
func find[T runtime.Object](objs []client.Object) []T {
	var found []T
	for _, obj := range objs {
		if o, ok := obj.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// one gives the only object of its type with this name.
func one[T client.Object](t *testing.T, objs []client.Object, name string) T {
	t.Helper()
	var found []T
	for _, obj := range find[T](objs) {
		if obj.GetName() == name {
			found = append(found, obj)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects named %s", len(found), name)
	}
	return found[0]
}
