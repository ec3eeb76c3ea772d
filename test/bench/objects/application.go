package main

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/godwit-io/godwit/daemon/workload"
)

// objectsOfNamespace counts the namespace itself too.
const objectsOfNamespace = 200

// application is what stands in one namespace.
func application(namespace string) ([]unstructured.Unstructured, error) {
	var text strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&text, "---\n"+format+"\n", args...) }
	add("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", namespace)
	for i := range 100 {
		add("{apiVersion: v1, kind: ConfigMap, metadata: {name: c%d, namespace: %s, labels: {app: a%d}}, data: {settings: %q}}", i, namespace, i%15, strings.Repeat("key=value ", 40))
	}
	for i := range 40 {
		add("{apiVersion: v1, kind: Secret, metadata: {name: s%d, namespace: %s}, data: {password: cGFzc3dvcmQ=}}", i, namespace)
	}
	for i := range 15 {
		add("{apiVersion: v1, kind: ServiceAccount, metadata: {name: a%d, namespace: %s}}", i, namespace)
		add("{apiVersion: v1, kind: Service, metadata: {name: a%d, namespace: %s}, spec: {clusterIP: None, selector: {app: a%d}, ports: [{port: 80, name: http}]}}", i, namespace, i)
		add(`apiVersion: apps/v1
kind: Deployment
metadata: {name: a%[1]d, namespace: %[2]s, labels: {app: a%[1]d}}
spec:
  replicas: 2
  selector: {matchLabels: {app: a%[1]d}}
  template:
    metadata: {labels: {app: a%[1]d}}
    spec:
      serviceAccountName: a%[1]d
      containers:
      - {name: c, image: "registry.example.com/a:1", ports: [{containerPort: 8080}], resources: {requests: {cpu: 100m, memory: 64Mi}}, env: [{name: A, value: "1"}, {name: B, value: "2"}]}`, i, namespace)
	}
	for i := range 7 {
		add("{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: r%d, namespace: %s}, rules: [{apiGroups: [\"\"], resources: [configmaps], verbs: [get]}]}", i, namespace)
		add("{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: r%[1]d, namespace: %[2]s}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r%[1]d}, subjects: [{kind: ServiceAccount, name: a%[1]d, namespace: %[2]s}]}", i, namespace)
	}
	objects, err := workload.Decode([]byte(text.String()))
	if err == nil && len(objects) != objectsOfNamespace {
		err = fmt.Errorf("the application has %d objects, and %d are told", len(objects), objectsOfNamespace)
	}
	return objects, err
}

func sourceOf(n int) string  { return fmt.Sprintf("bench-%02d", n) }
func targetOf(n int) string  { return fmt.Sprintf("moved-%02d", n) }
func kubectlOf(n int) string { return fmt.Sprintf("applied-%02d", n) }
