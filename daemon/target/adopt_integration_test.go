package target_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/pairing"
)

// A Service that stands here already is adopted with the addresses that it has, by
// a pair of its namespace too, which is judged by what the write would make of it.
func TestStandingServiceIsAdopted(t *testing.T) {
	v := newVictim(t)
	port := corev1.ServicePort{Port: 80, TargetPort: intstr.FromInt32(80)}
	standing := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "nginx-svc"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Selector: map[string]string{"app": "theirs"}, Ports: []corev1.ServicePort{port}},
	}
	v.create(t, standing)
	a := v.pair(t, pairing.Scope{Namespaces: []string{"cms"}})
	status, err := a.bring(t, `
apiVersion: godwit.io/v1alpha1
kind: Instructions
metadata: {name: round}
spec: {conflicts: {resolution: Overwrite}}
---
apiVersion: v1
kind: Service
metadata: {name: nginx-svc, namespace: cms}
spec:
  type: NodePort
  clusterIP: 10.255.255.1
  clusterIPs: [10.255.255.1]
  selector: {app: nginx}
  ports: [{port: 80, protocol: TCP, targetPort: 80, nodePort: 32767}]
`, nil)
	if err != nil || len(status.Resources) != 1 || !status.Resources[0].OK {
		t.Fatalf("%+v, %v", status, err)
	}
	var now corev1.Service
	if err := v.client.Get(t.Context(), client.ObjectKeyFromObject(standing), &now); err != nil {
		t.Fatal(err)
	}
	if now.UID != standing.UID || now.Spec.ClusterIP != standing.Spec.ClusterIP || now.Spec.Ports[0].NodePort != standing.Spec.Ports[0].NodePort || now.Spec.Selector["app"] != "nginx" {
		t.Errorf("it is %+v, and was %+v", now.Spec, standing.Spec)
	}
}
