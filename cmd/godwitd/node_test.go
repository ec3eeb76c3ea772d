package main

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// answering gives each answer once and then the last one for ever.
func answering(t *testing.T, answers ...error) (client.Reader, *atomic.Int64) {
	t.Helper()
	info := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "godwit-system", Name: clusterInfo}, Data: map[string]string{"clusterID": "c-1"}}
	var calls atomic.Int64
	return fake.NewClientBuilder().WithObjects(info).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			n := int(calls.Add(1)) - 1
			if err := answers[min(n, len(answers)-1)]; err != nil {
				return err
			}
			return c.Get(ctx, key, obj, opts...)
		},
	}).Build(), &calls
}

func TestNodeWaitsForTheController(t *testing.T) {
	configMaps := schema.GroupResource{Resource: "configmaps"}
	missing := apierrors.NewNotFound(configMaps, clusterInfo)
	o := nodeOptions{namespace: "godwit-system"}
	synctest.Test(t, func(t *testing.T) {
		r, calls := answering(t, missing, errors.New("connection refused"), missing, nil)
		began := time.Now()
		id, err := o.clusterID(t.Context(), r)
		if id != "c-1" || err != nil || calls.Load() != 4 || time.Since(began) != 3*clusterInfoPoll {
			t.Errorf("%q, %v after %d calls in %s", id, err, calls.Load(), time.Since(began))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r, _ := answering(t, missing)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := o.clusterID(ctx, r); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "which the controller writes when it starts") {
			t.Errorf("error %v", err)
		}
	})
	r, calls := answering(t, apierrors.NewForbidden(configMaps, clusterInfo, errors.New("no")))
	if _, err := o.clusterID(t.Context(), r); err == nil || !strings.Contains(err.Error(), "check the roles") || calls.Load() != 1 {
		t.Errorf("error %v after %d calls: waiting gives nobody rights", err, calls.Load())
	}
}
