package controller_test

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/yaml"

	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/workload"
)

// served answers as the target's agent does.
func (t *target) served(kinds []migrate.KindVersions) []migrate.KindVersions {
	var out []migrate.KindVersions
	for _, k := range kinds {
		if versions, told := t.serves[schema.GroupKind{Group: k.Group, Kind: k.Kind}.String()]; told {
			k.Versions = versions
		}
		out = append(out, k)
	}
	return out
}

const pagesDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: leaves.versions.example.com}
spec:
  group: versions.example.com
  scope: Namespaced
  names: {kind: Leaf, plural: leaves, singular: leaf}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
  - {name: v1beta1, served: true, storage: false, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

func (r *rig) make(document string) {
	r.t.Helper()
	var obj unstructured.Unstructured
	r.must(yaml.Unmarshal([]byte(document), &obj.Object))
	err := r.client.Create(r.t.Context(), &obj)
	if !apierrors.IsAlreadyExists(err) {
		r.must(err)
	}
}

// TestReadAsTheTargetServes reads objects in a version that the target serves, for
// the question to the target and for the round.
func TestReadAsTheTargetServes(t *testing.T) {
	r := newRig(t)
	r.make(pagesDefinition)
	r.must(wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		versions, err := workload.Versions(r.migrations.Objects.Discovery)
		return len(versions[schema.GroupKind{Group: "versions.example.com", Kind: "Leaf"}]) == 2, err
	}))
	r.make("{apiVersion: versions.example.com/v1, kind: Leaf, metadata: {name: a, namespace: " + r.ns + "}}")
	r.target.serves = map[string][]string{"Leaf.versions.example.com": {"v1beta1"}, "HorizontalPodAutoscaler.autoscaling": {"v2"}}
	r.make("{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a, namespace: " + r.ns + "}, spec: {maxReplicas: 2, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: a}}}")
	r.migration("move", nil)
	m := r.until("move", "its end", ended, r.carryOut("move"))
	if got := m.Status.ReadVersions; len(got) != 1 || got["Leaf.versions.example.com"] != "v1beta1" {
		t.Errorf("read in %v", got)
	}
	round, err := r.repository.Sealed(t.Context(), m.Status.Application, m.Status.Round)
	r.must(err)
	asked, err := workload.Expand(r.target.asked[0].Objects)
	r.must(err)
	for what, data := range map[string][]byte{"asked": asked, "sealed": round.Objects} {
		_, objects, err := workload.Unpack(data)
		r.must(err)
		versions := make(map[string]string)
		for _, o := range objects {
			versions[o.GetKind()] = o.GetAPIVersion()
		}
		if versions["Leaf"] != "versions.example.com/v1beta1" || versions["HorizontalPodAutoscaler"] != "autoscaling/v2" {
			t.Errorf("%s: %v", what, versions)
		}
	}
}
