package workload

import (
	"slices"
	"testing"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload/shape"
)

// TestOpenShift moves Routes and ImageStreams where they are served, leaves views
// and certificates of the source's own, and what would run again.
func TestOpenShift(t *testing.T) {
	c := cluster(t, nil)
	define(t, c, "route.openshift.io", "Route")
	define(t, c, "image.openshift.io", "ImageStream")
	define(t, c, "image.openshift.io", "ImageStreamTag")
	put(t, c, `
{apiVersion: v1, kind: Namespace, metadata: {name: openshift-app, annotations: {openshift.io/sa.scc.uid-range: 1000650000/10000}}}
---
{apiVersion: route.openshift.io/v1, kind: Route, metadata: {name: generated, namespace: openshift-app, annotations: {openshift.io/host.generated: "true"}}, spec: {host: a.east.example.com, to: {name: web}}}
---
{apiVersion: route.openshift.io/v1, kind: Route, metadata: {name: chosen, namespace: openshift-app}, spec: {host: www.example.com}}
---
{apiVersion: image.openshift.io/v1, kind: ImageStream, metadata: {name: web, namespace: openshift-app}, spec: {tags: [{name: "1"}]}}
---
{apiVersion: image.openshift.io/v1, kind: ImageStreamTag, metadata: {name: web.1, namespace: openshift-app}}
---
{apiVersion: v1, kind: Secret, metadata: {name: web-tls, namespace: openshift-app, annotations: {service.beta.openshift.io/originating-service-name: web}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: hook, namespace: openshift-app, annotations: {helm.sh/hook: test}}, spec: {containers: [{name: c, image: c}]}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: of-a-hook, namespace: openshift-app, annotations: {helm.sh/hook: pre-install}}}
`)
	collected, err := Collect(t.Context(), c, Selection{Namespaces: []string{"openshift-app"}})
	if err != nil {
		t.Fatal(err)
	}
	objects, skipped := names(collected)
	requireSame(t, "objects", objects, []string{
		"Namespace openshift-app", "Route.route.openshift.io generated", "Route.route.openshift.io chosen", "ImageStream.image.openshift.io web", "ConfigMap of-a-hook",
	})
	for _, want := range []string{"Secret web-tls: serving-cert", "Pod hook: helm-hook", "ImageStreamTag.image.openshift.io: views"} {
		if !slices.Contains(skipped, want) {
			t.Errorf("not left out: %s", want)
		}
	}
	o := options()
	o.Namespaces = map[string]string{"openshift-app": "openshift-there"}
	for _, wave := range Order(transformed(t, collected.Objects, o)) {
		outcomes, err := ApplyWave(t.Context(), c, wave.Objects, resolving(api.ConflictAbort), nothing{})
		if err != nil {
			t.Fatal(err)
		}
		for _, outcome := range outcomes {
			if outcome.Err != nil {
				t.Errorf("%s: %v", outcome.Ref, outcome.Err)
			}
		}
	}
	if tags := shape.List(find(t, c, Ref{Group: "image.openshift.io", Version: "v1", Kind: "ImageStream", Namespace: "openshift-there", Name: "web"}).Object, "spec", "tags"); len(tags) != 1 {
		t.Errorf("the stream came with %d tags", len(tags))
	}
	there := func(group, kind, name string, path ...string) string {
		obj := find(t, c, Ref{Group: group, Version: "v1", Kind: kind, Namespace: "openshift-there", Name: name})
		return shape.Text(obj.Object, path...)
	}
	if generated, chosen := there("route.openshift.io", "Route", "generated", "spec", "host"), there("route.openshift.io", "Route", "chosen", "spec", "host"); generated != "" || chosen != "www.example.com" {
		t.Errorf("hosts %q and %q", generated, chosen)
	}
	namespace := find(t, c, Ref{Version: "v1", Kind: "Namespace", Name: "openshift-there"})
	if uids := namespace.GetAnnotations()["openshift.io/sa.scc.uid-range"]; uids != "1000650000/10000" {
		t.Errorf("the namespace's users are %q", uids)
	}
}
