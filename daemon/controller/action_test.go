package controller

import (
	"errors"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// TestGaveBack sees that the end of a failback takes the mark from the copies of the
// schedules of that standby, and from no other.
func TestGaveBack(t *testing.T) {
	t.Parallel()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), api.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	marked := func(name, standby string) client.Object {
		m := &api.MigrationSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: name}}
		m.Annotations = map[string]string{api.AnnotationStaticCopy: "true", api.AnnotationCopyStandby: standby}
		m.Status.ApplicationActivated = true
		return m
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&api.MigrationSchedule{}).
		WithObjects(marked("came-back", "cms-cms"), marked("anothers", "cms-shop")).Build()
	x := &switchover{Actions: &Actions{Client: c, Live: c}, a: &api.Action{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "back"}}}
	for _, step := range []struct {
		standby string
		left    map[string]bool
	}{
		{"", map[string]bool{"came-back": true, "anothers": true}},
		{"cms-cms", map[string]bool{"came-back": false, "anothers": true}},
	} {
		x.standby = step.standby
		if err := x.gaveBack(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, want := range step.left {
			var m api.MigrationSchedule
			if err := c.Get(t.Context(), client.ObjectKey{Namespace: "cms", Name: name}, &m); err != nil || m.Status.ApplicationActivated != want {
				t.Errorf("after %q: %s says %t (%v)", step.standby, name, m.Status.ApplicationActivated, err)
			}
		}
	}
}
