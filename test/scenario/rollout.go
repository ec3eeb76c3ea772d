package scenario

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rollout is how far a Deployment, StatefulSet or DaemonSet is. What a kind does not
// have is nil, or empty.
type rollout struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Replicas *int `json:"replicas"`
	} `json:"spec"`
	Status struct {
		ObservedGeneration int64  `json:"observedGeneration"`
		Replicas           int    `json:"replicas"`
		ReadyReplicas      int    `json:"readyReplicas"`
		UpdatedReplicas    int    `json:"updatedReplicas"`
		AvailableReplicas  int    `json:"availableReplicas"`
		CurrentRevision    string `json:"currentRevision"`
		UpdateRevision     string `json:"updateRevision"`
		Desired            *int   `json:"desiredNumberScheduled"`
		UpdatedScheduled   int    `json:"updatedNumberScheduled"`
		Available          int    `json:"numberAvailable"`
	} `json:"status"`
}

// done is what kubectl rollout status waits for.
func (r rollout) done() bool {
	s := r.Status
	if s.ObservedGeneration < r.Generation {
		return false
	}
	if s.Desired != nil {
		return s.UpdatedScheduled == *s.Desired && s.Available == *s.Desired
	}
	want := 1
	if r.Spec.Replicas != nil {
		want = *r.Spec.Replicas
	}
	return s.Replicas == want && s.ReadyReplicas == want && s.AvailableReplicas == want &&
		(s.UpdatedReplicas == want || s.CurrentRevision != "") && s.CurrentRevision == s.UpdateRevision
}

// Rollout waits until a Deployment, StatefulSet or DaemonSet runs as it should.
func (c Cluster) Rollout(ctx context.Context, namespace, workload string) error {
	err := Await(ctx, Long, workload+" of namespace "+namespace, func(ctx context.Context) (bool, string, error) {
		r, err := Get[rollout](ctx, c, "-n", namespace, workload)
		return err == nil && r.done(), fmt.Sprintf("%+v", r.Status), err
	})
	if err == nil {
		return nil
	}
	pods, other := c.Kubectl(context.WithoutCancel(ctx), "-n", namespace, "get", "pods", "-o", "wide")
	if other != nil {
		return err
	}
	return fmt.Errorf("%w\npods of namespace %s:\n%s", err, namespace, pods)
}
