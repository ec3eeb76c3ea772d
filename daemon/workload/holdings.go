package workload

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// holding says how one kind of custom resource is kept from running.
type holding struct {
	kind    schema.GroupKind
	options []suspension
	stash   bool
}

// suspension is a field that keeps a custom resource from running.
type suspension struct {
	path shape.Path
	// text is the path as it stands in the annotation's key.
	text string
	kind string
	// value holds; for int it is always 0.
	value string
}

// builtIns are the registrations that stork brings along.
func builtIns() []api.ApplicationResource {
	var out []api.ApplicationResource
	add := func(group, kind, path, sort, value string) {
		var r api.ApplicationResource
		r.Group, r.Kind = group, kind
		r.SuspendOptions = api.SuspendOptions{Path: path, Type: sort, Value: value}
		out = append(out, r)
	}
	for _, kind := range []string{"IBPPeer", "IBPCA", "IBPOrderer", "IBPConsole"} {
		add("ibp.com", kind, "spec.replicas", "int", "")
	}
	add("couchbase.com", "CouchbaseCluster", "spec.paused", "bool", "")
	add("cassandra.datastax.com", "CassandraDatacenter", "spec.stopped", "bool", "")
	add("app.redislabs.com", "RedisEnterpriseCluster", "", "", "")
	add("app.redislabs.com", "RedisEnterpriseDatabase", "", "", "")
	add("weblogic.oracle", "Domain", "spec.serverStartPolicy", "string", "NEVER")
	add("rabbitmq.com", "RabbitmqCluster", "spec.replicas", "int", "")
	add("pxc.percona.com", "PerconaXtraDBCluster", "spec.pause", "bool", "")
	add("monitoring.coreos.com", "Prometheus", "spec.replicas", "int", "")
	add("kafka.strimzi.io", "Kafka", "spec.kafka.replicas", "int", "")
	add("acid.zalan.do", "postgresql", "spec.numberOfInstances", "int", "")
	add("mongodbcommunity.mongodb.com", "MongoDBCommunity", "spec.members", "int", "")
	add("kubevirt.io", "VirtualMachine", "spec.runStrategy", "string", "Halted")
	return out
}

// readHoldings checks registrations. The users' own come before those built in.
func readHoldings(registrations []api.ApplicationResource) ([]holding, error) {
	var out []holding
	var all []error
	for _, r := range append(append([]api.ApplicationResource{}, registrations...), builtIns()...) {
		h := holding{kind: schema.GroupKind{Group: r.Group, Kind: r.Kind}, stash: r.StashStrategy.StashCR}
		for i, o := range append([]api.SuspendOptions{r.SuspendOptions}, r.CustomSuspendOptions...) {
			if o.Path == "" {
				continue
			}
			s, err := readSuspension(o)
			if err != nil {
				field := "suspendOptions"
				if i > 0 {
					field = fmt.Sprintf("customSuspendOptions[%d]", i-1)
				}
				all = append(all, fmt.Errorf("ApplicationRegistration of %s: %s: %w", h.kind, field, err))
				continue
			}
			h.options = append(h.options, s)
		}
		out = append(out, h)
	}
	return out, errors.Join(all...)
}

func readSuspension(o api.SuspendOptions) (suspension, error) {
	path, err := shape.ParsePath(o.Path)
	if err != nil {
		return suspension{}, fmt.Errorf("path: %w", err)
	}
	s := suspension{path: path, text: o.Path, kind: o.Type, value: o.Value}
	switch o.Type {
	case "bool":
		if s.value == "" {
			s.value = "true"
		}
		if _, err := strconv.ParseBool(s.value); err != nil {
			return s, fmt.Errorf("value: %q is neither true nor false", o.Value)
		}
	case "int":
		s.value = ""
	case "string":
	default:
		return s, fmt.Errorf("type: %q is unknown: use bool, int or string", o.Type)
	}
	return s, nil
}

func (e *Edits) holdingOf(gk schema.GroupKind) *holding {
	for i := range e.held {
		if e.held[i].kind == gk {
			return &e.held[i]
		}
	}
	return nil
}

// apply holds or starts the object by its fields.
func (h *holding) apply(obj *unstructured.Unstructured, start bool) error {
	for _, s := range h.options {
		if err := s.apply(obj, start); err != nil {
			return fmt.Errorf("%s: %w", s.text, err)
		}
	}
	return nil
}

// key is the annotation in which stork keeps "what it was,what holds it".
func (s suspension) key() string { return "stork.libopenstorage.org/" + s.text }

func (s suspension) apply(obj *unstructured.Unstructured, start bool) error {
	now, err := s.read(obj)
	if err != nil {
		return err
	}
	was := now
	remembered, isHeld := obj.GetAnnotations()[s.key()]
	if isHeld && now == s.held() {
		// An earlier run holds it, so what it was is in the annotation only.
		was, _, _ = strings.Cut(remembered, ",")
	}
	removeAnnotations(obj, s.key())
	if start {
		return s.write(obj, was)
	}
	annotate(obj, s.key(), was+","+s.value)
	return s.write(obj, s.held())
}

func (s suspension) held() string {
	if s.kind == "int" {
		return "0"
	}
	return s.value
}

// read gives the field as text; of one that is not set, none.
func (s suspension) read(obj *unstructured.Unstructured) (string, error) {
	value, ok := s.path.Get(obj.Object)
	if !ok {
		return "", nil
	}
	switch value := value.(type) {
	case string:
		if s.kind == "string" {
			return value, nil
		}
	case bool:
		if s.kind == "bool" {
			return strconv.FormatBool(value), nil
		}
	case int64:
		if s.kind == "int" {
			return strconv.FormatInt(value, 10), nil
		}
	}
	return "", fmt.Errorf("the field is no %s: correct the ApplicationRegistration of %s", s.kind, obj.GroupVersionKind().GroupKind())
}

func (s suspension) write(obj *unstructured.Unstructured, text string) error {
	if text == "" {
		s.path.Delete(obj.Object)
		return nil
	}
	switch s.kind {
	case "bool":
		value, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("annotation %s is not true or false: correct or remove it", s.key())
		}
		return s.path.Set(obj.Object, value)
	case "int":
		value, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("annotation %s is not a number: correct or remove it", s.key())
		}
		return s.path.Set(obj.Object, value)
	}
	return s.path.Set(obj.Object, text)
}

const (
	labelStash     = "stork.libopenstorage.org/stash-cr"
	labelStashKind = "resource-kind"
	keyStash       = "cr-runtime-object"
)

// stashed returns the ConfigMap in which the object waits for the start, since its
// operator would act on the object itself.
func stashed(obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	data, err := json.Marshal(obj.Object)
	if err != nil {
		return nil, fmt.Errorf("put it away: %w", err)
	}
	gk := obj.GroupVersionKind().GroupKind()
	cm := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"data": map[string]any{keyStash: string(data), "name": obj.GetName()},
	}}
	cm.SetNamespace(obj.GetNamespace())
	cm.SetName(strings.ToLower(gk.Kind + "-" + strings.ReplaceAll(gk.Group, ".", "-") + "-" + obj.GetName()))
	cm.SetLabels(map[string]string{labelStash: "true", labelStashKind: gk.Kind})
	return cm, nil
}

// The annotations by which KEDA lets go of a workload.
const (
	annotationKedaPaused   = "autoscaling.keda.sh/paused"
	annotationKedaReplicas = "autoscaling.keda.sh/paused-replicas"
	// annotationPaused remembers that it was not the user who paused.
	annotationPaused = "godwit.io/paused"
	// annotationMinReplicas keeps spec.minReplicas of an autoscaler that would act
	// on a workload at zero.
	annotationMinReplicas = "godwit.io/min-replicas"
)

// pauseKeda keeps KEDA from scaling what is held.
func pauseKeda(obj *unstructured.Unstructured, start bool) {
	annotations := obj.GetAnnotations()
	if annotations[annotationPaused] == "true" {
		removeAnnotations(obj, annotationKedaPaused, annotationKedaReplicas, annotationPaused)
		annotations = obj.GetAnnotations()
	}
	_, paused := annotations[annotationKedaPaused]
	_, replicas := annotations[annotationKedaReplicas]
	if start || paused || replicas {
		return
	}
	annotate(obj, annotationPaused, "true")
	annotate(obj, annotationKedaPaused, "true")
	if obj.GetKind() == "ScaledObject" {
		annotate(obj, annotationKedaReplicas, "0")
	}
}

// restAutoscaler keeps an autoscaler from starting what is held. Only one that may
// scale to zero acts on a workload that stands at zero.
func restAutoscaler(obj *unstructured.Unstructured, start bool) error {
	minimum, set, err := unstructured.NestedInt64(obj.Object, "spec", "minReplicas")
	if err != nil {
		return err
	}
	_, remembered := obj.GetAnnotations()[annotationMinReplicas]
	if remembered && minimum == 1 {
		minimum, set = 0, true
	}
	removeAnnotations(obj, annotationMinReplicas)
	if !set {
		return nil
	}
	if !start && minimum == 0 {
		annotate(obj, annotationMinReplicas, "0")
		minimum = 1
	}
	return unstructured.SetNestedField(obj.Object, minimum, "spec", "minReplicas")
}
