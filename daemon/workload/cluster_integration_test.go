package workload

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// server is the API server that all tests share, each in namespaces of its own;
// nil where there are no programs for it.
var server *rest.Config

func TestMain(m *testing.M) {
	os.Exit(func() int {
		programs := os.Getenv("GODWIT_KUBE_BIN")
		if programs == "" {
			return m.Run()
		}
		env := &envtest.Environment{
			BinaryAssetsDirectory:    programs,
			ControlPlaneStartTimeout: 2 * time.Minute,
		}
		config, err := env.Start()
		if err != nil {
			fmt.Fprintf(os.Stderr, "start etcd and kube-apiserver from %s: %v\n", programs, err)
			return 1
		}
		defer func() {
			if err := env.Stop(); err != nil {
				fmt.Fprintf(os.Stderr, "stop the API server: %v\n", err)
			}
		}()
		config.QPS, config.Burst = 500, 1000
		config.WarningHandler = rest.NoWarnings{}
		server = config
		return m.Run()
	}())
}

// cluster connects to the API server; change, if given, alters the connection.
func cluster(t *testing.T, change func(*rest.Config)) Cluster {
	t.Helper()
	if server == nil {
		t.Skip("needs GODWIT_KUBE_BIN: make test sets it")
	}
	config := rest.CopyConfig(server)
	if change != nil {
		change(config)
	}
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))
	return Cluster{Discovery: d, Dynamic: objects, Mapper: mapper}
}

// transport answers some requests itself.
type transport struct {
	next   http.RoundTripper
	answer func(*http.Request) *http.Response
}

func (tr transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if response := tr.answer(r); response != nil {
		return response, nil
	}
	return tr.next.RoundTrip(r)
}

func answering(answer func(*http.Request) *http.Response) func(*rest.Config) {
	return func(config *rest.Config) {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { return transport{next, answer} })
	}
}

// put creates what the documents say, with status, and returns it as stored.
// "uid-of: kind/name" in an owner reference is filled in.
func put(t *testing.T, c Cluster, documents string) []*unstructured.Unstructured {
	t.Helper()
	objects, err := Decode([]byte(documents))
	if err != nil {
		t.Fatal(err)
	}
	var stored []*unstructured.Unstructured
	for i := range objects {
		obj := &objects[i]
		resource, err := resourceOf(c, RefOf(obj))
		if err != nil {
			t.Fatal(err)
		}
		owners := obj.GetOwnerReferences()
		for j := range owners {
			for _, earlier := range stored {
				if earlier.GetKind() == owners[j].Kind && earlier.GetName() == owners[j].Name {
					owners[j].UID = earlier.GetUID()
				}
			}
		}
		obj.SetOwnerReferences(owners)
		status := obj.Object["status"]
		made, err := resource.Create(t.Context(), obj, metav1.CreateOptions{FieldManager: "somebody"})
		if err != nil {
			t.Fatalf("%s: %v", RefOf(obj), err)
		}
		if status != nil {
			made.Object["status"] = status
			if made, err = resource.UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
				t.Fatalf("%s: status: %v", RefOf(obj), err)
			}
		}
		stored = append(stored, made)
	}
	return stored
}

func find(t *testing.T, c Cluster, ref Ref) *unstructured.Unstructured {
	t.Helper()
	resource, err := resourceOf(c, ref)
	if err != nil {
		t.Fatal(err)
	}
	obj, err := get(t.Context(), resource, ref.Name)
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

func edit(t *testing.T, c Cluster, ref Ref, manager, merge string) {
	t.Helper()
	resource, err := resourceOf(c, ref)
	if err != nil {
		t.Fatal(err)
	}
	_, err = resource.Patch(t.Context(), ref.Name, types.MergePatchType, []byte(merge), metav1.PatchOptions{FieldManager: manager})
	if err != nil {
		t.Fatal(err)
	}
}

// define makes a CustomResourceDefinition and waits until the server serves it.
func define(t *testing.T, c Cluster, group, kind string) {
	t.Helper()
	plural := strings.ToLower(kind) + "s"
	document := strings.NewReplacer("GROUP", group, "KIND", kind, "PLURAL", plural).Replace(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: PLURAL.GROUP}
spec:
  group: GROUP
  scope: Namespaced
  names: {kind: KIND, plural: PLURAL, singular: PLURAL}
  versions:
  - {name: v1alpha1, served: true, storage: false, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`)
	put(t, c, document)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	probe := Ref{Group: group, Version: "v1", Kind: kind, Namespace: "default"}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		resource, err := resourceOf(c, probe)
		if err == nil {
			if _, err = resource.List(ctx, metav1.ListOptions{}); err == nil {
				return
			}
		}
		if !Retryable(err) && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s is not served: %v", kind, err)
		case <-tick.C:
		}
	}
}

// nothing is a journal that keeps nothing.
type nothing struct{}

func (nothing) Intend(context.Context, []Applied) error { return nil }
func (nothing) Done(context.Context, []Applied) error   { return nil }
