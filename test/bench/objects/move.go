package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/godwit-io/godwit/daemon/workload"
)

const (
	helperMove = "move"
	// journalNamespace is Godwit's own.
	journalNamespace = "bench-godwit"
)

func connect(kubeconfig string) (workload.Cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return workload.Cluster{}, err
	}
	// Godwit leaves the pace to the server's fairness.
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return workload.Cluster{}, err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return workload.Cluster{}, err
	}
	return workload.Cluster{Discovery: d, Dynamic: objects, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))}, nil
}

// move collects all namespaces of the source and applies them under other names.
func move(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("move KUBECONFIG NAMESPACES ROUND")
	}
	namespaces, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	round, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	c, err := connect(args[0])
	if err != nil {
		return err
	}
	o := workload.TransformOptions{
		MigrationName: "bench", MigrationNamespace: journalNamespace, Time: time.Now().Truncate(time.Second),
		Instructions: workload.Instructions{Namespaces: map[string]string{}, StartApplications: true},
	}
	var names []string
	for n := range namespaces {
		names, o.Namespaces[sourceOf(n)] = append(names, sourceOf(n)), targetOf(n)
	}
	begun := time.Now()
	collected, err := workload.Collect(ctx, c, workload.Selection{Namespaces: names})
	if err != nil {
		return err
	}
	if want := namespaces * objectsOfNamespace; len(collected.Objects) != want {
		return fmt.Errorf("%d objects were collected, want %d", len(collected.Objects), want)
	}
	read := time.Now()
	out, err := workload.Transform(collected.Objects, o)
	if err != nil {
		return err
	}
	changed := time.Now()
	j := &journal{cluster: c, prefix: fmt.Sprintf("undo-%d", round)}
	if err := applyAll(ctx, c, out.Plain(), j); err != nil {
		return err
	}
	fmt.Printf("collected in %.2f s, changed in %.2f s, applied in %.2f s", read.Sub(begun).Seconds(), changed.Sub(read).Seconds(), time.Since(changed).Seconds())
	return nil
}

func applyAll(ctx context.Context, c workload.Cluster, objects []unstructured.Unstructured, j workload.Journal) error {
	for _, wave := range workload.Order(objects) {
		outcomes, err := workload.ApplyWave(ctx, c, wave.Objects, workload.ApplyOptions{FieldManager: "godwit", Owner: "bench"}, j)
		if err != nil {
			return err
		}
		for _, outcome := range outcomes {
			if outcome.Err != nil {
				return outcome.Err
			}
		}
	}
	return nil
}

// journal keeps how to undo a run as the target does: a Secret for each entry.
type journal struct {
	cluster workload.Cluster
	prefix  string
	next    int
}

var _ workload.Journal = (*journal)(nil)

// Intend is workload.Journal's.
func (j *journal) Intend(ctx context.Context, intents []workload.Applied) error {
	return j.keep(ctx, intents)
}

// Done is workload.Journal's.
func (j *journal) Done(ctx context.Context, done []workload.Applied) error { return j.keep(ctx, done) }

func (j *journal) keep(ctx context.Context, records []workload.Applied) error {
	data, err := json.Marshal(records)
	if err == nil {
		data, err = workload.Compress(data)
	}
	if err != nil {
		return err
	}
	var s unstructured.Unstructured
	s.SetAPIVersion("v1")
	s.SetKind("Secret")
	s.SetName(fmt.Sprintf("%s-%d", j.prefix, j.next))
	s.Object["data"] = map[string]any{"applied.json.gz": data}
	plain, err := json.Marshal(s.Object) // Bytes become base64.
	if err == nil {
		err = json.Unmarshal(plain, &s.Object)
	}
	if err != nil {
		return err
	}
	j.next++
	_, err = j.cluster.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}).Namespace(journalNamespace).Create(ctx, &s, metav1.CreateOptions{})
	return err
}
