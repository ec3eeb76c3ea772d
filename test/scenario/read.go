package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/dynamic"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// reader reads a cluster, and applies manifests to it, without a process each time:
// stories do so often, and a kubectl for each time would keep them from working.
type reader struct {
	config *rest.Config
	kinds  meta.RESTMapper
	client dynamic.Interface
	core   rest.Interface
}

func newReader(kubeconfig string) (*reader, error) {
	flags := genericclioptions.NewConfigFlags(true)
	flags.KubeConfig = &kubeconfig
	config, err := flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	config.QPS = -1 // It is bounded by how often the stories look.
	r := &reader{config: config}
	if r.kinds, err = flags.ToRESTMapper(); err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	if r.client, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	core, err := corev1.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	r.core = core.RESTClient()
	return r, nil
}

// question is what kubectl get is asked.
type question struct {
	namespace  string
	kind, name string
	options    metav1.ListOptions
}

// parseQuestion understands kubectl's words for one object, or for a list of a kind.
func parseQuestion(args []string) (question, error) {
	var q question
	var words []string
	for i := 0; i < len(args); i++ {
		var into *string
		switch args[i] {
		case "-A":
			continue
		case "-n":
			into = &q.namespace
		case "-l":
			into = &q.options.LabelSelector
		case "--field-selector":
			into = &q.options.FieldSelector
		default:
			if strings.HasPrefix(args[i], "-") {
				return q, fmt.Errorf("flag %s is not known here", args[i])
			}
			words = append(words, args[i])
			continue
		}
		if i++; i == len(args) {
			return q, fmt.Errorf("flag %s lacks its value", args[i-1])
		}
		*into = args[i]
	}
	if len(words) == 1 {
		q.kind, q.name, _ = strings.Cut(words[0], "/")
	} else if len(words) == 2 {
		q.kind, q.name = words[0], words[1]
	}
	if q.kind == "" {
		return q, fmt.Errorf("%q names neither an object nor a kind", words)
	}
	return q, nil
}

func (r *reader) read(ctx context.Context, q question) (runtime.Unstructured, error) {
	var kind schema.GroupVersionKind
	err := r.anew(func() (err error) {
		kind, err = r.kinds.KindFor(schema.ParseGroupResource(q.kind).WithVersion(""))
		return err
	})
	if err != nil {
		return nil, err
	}
	objects, err := r.objects(kind, q.namespace)
	if err != nil {
		return nil, err
	}
	if q.name == "" {
		return objects.List(ctx, q.options)
	}
	return objects.Get(ctx, q.name, metav1.GetOptions{})
}

// anew finds a kind, and asks the server again which there are where it is not known:
// its definition may have come since.
func (r *reader) anew(find func() error) error {
	err := find()
	if !meta.IsNoMatchError(err) {
		return err
	}
	meta.MaybeResetRESTMapper(r.kinds)
	return find()
}

// objects are those of a kind: of a namespace, or of all, or of none.
func (r *reader) objects(kind schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	var mapping *meta.RESTMapping
	err := r.anew(func() (err error) {
		mapping, err = r.kinds.RESTMapping(kind.GroupKind(), kind.Version)
		return err
	})
	if err != nil {
		return nil, err
	}
	if namespace != "" && mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return r.client.Resource(mapping.Resource).Namespace(namespace), nil
	}
	return r.client.Resource(mapping.Resource), nil
}

// Get reads one object, or a List of a kind, into a type of the Kubernetes API.
// It takes the words of kubectl get: -n, -A, -l and --field-selector.
func Get[T any](ctx context.Context, c Cluster, args ...string) (T, error) {
	var into T
	q, err := parseQuestion(args)
	if err != nil {
		return into, fmt.Errorf("get %s: %w", strings.Join(args, " "), err)
	}
	object, err := c.reader.read(ctx, q)
	if err != nil {
		return into, fmt.Errorf("cluster %s: get %s: %w", c.Name, strings.Join(args, " "), err)
	}
	// Through JSON, as these types are written everywhere.
	out, err := json.Marshal(object)
	if err != nil {
		return into, fmt.Errorf("cluster %s: get %s: %w", c.Name, strings.Join(args, " "), err)
	}
	if err := json.Unmarshal(out, &into); err != nil {
		return into, fmt.Errorf("cluster %s: get %s: %w", c.Name, strings.Join(args, " "), err)
	}
	return into, nil
}

// Exists says whether the object that the words of kubectl get name is there.
func Exists(ctx context.Context, c Cluster, args ...string) (bool, error) {
	_, err := Get[metav1.PartialObjectMetadata](ctx, c, args...)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}
