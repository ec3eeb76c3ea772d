package scenario

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// Object names one object of a cluster.
type Object struct{ Kind, Namespace, Name string }

// AwaitRefusal waits until the object's Ready condition is False with the words,
// in one line, and a warning of the object says the same.
func (c Cluster) AwaitRefusal(ctx context.Context, o Object, words ...string) error {
	what := fmt.Sprintf("%s %s/%s to say %s", o.Kind, o.Namespace, o.Name, strings.Join(words, " … "))
	return Await(ctx, time.Minute, what, func(ctx context.Context) (bool, string, error) {
		type object struct {
			Status struct {
				Conditions []metav1.Condition `json:"conditions"`
			} `json:"status"`
		}
		now, err := Get[object](ctx, c, "-n", o.Namespace, o.Kind, o.Name)
		if err != nil {
			return false, "", err
		}
		ready := meta.FindStatusCondition(now.Status.Conditions, api.ConditionReady)
		if ready == nil || ready.Status != metav1.ConditionFalse || !hasAll(ready.Reason+" "+ready.Message, words) {
			return false, fmt.Sprintf("condition %+v", ready), nil
		}
		if strings.Contains(ready.Message, "\n") {
			return false, "", fmt.Errorf("the message is more than one line: %q", ready.Message)
		}
		told, err := c.events(ctx, o.Namespace, "type=Warning,involvedObject.name="+o.Name)
		return hasAll(told, words), "events: " + told, err
	})
}

// events is what the chosen events say, reasons and messages.
func (c Cluster) events(ctx context.Context, namespace, selector string) (string, error) {
	all, err := Get[corev1.EventList](ctx, c, "-n", namespace, "events", "--field-selector", selector)
	var text strings.Builder
	for _, e := range all.Items {
		fmt.Fprintf(&text, "%s %s ", e.Reason, e.Message)
	}
	return strings.Join(strings.Fields(text.String()), " "), err
}

func hasAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}
