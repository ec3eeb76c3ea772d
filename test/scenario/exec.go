package scenario

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
)

// Script runs a bash script in the first container of a pod, or of a pod of a workload,
// and returns its standard output.
func (c Cluster) Script(ctx context.Context, namespace, where, script string) ([]byte, error) {
	pod, err := c.podOf(ctx, namespace, where)
	if err != nil {
		return nil, err
	}
	url := c.reader.core.Post().Namespace(namespace).Resource("pods").Name(pod.Name).SubResource("exec").VersionedParams(&corev1.PodExecOptions{
		Container: pod.Spec.Containers[0].Name, Command: []string{"bash", "-s"}, Stdin: true, Stdout: true, Stderr: true,
	}, scheme.ParameterCodec).URL()
	executor, err := remotecommand.NewSPDYExecutor(c.reader.config, "POST", url)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	var out, problems bytes.Buffer
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader(script), Stdout: &out, Stderr: &problems})
	if err != nil {
		return out.Bytes(), fmt.Errorf("cluster %s: script in %s/%s: %w: %s", c.Name, namespace, where, err, tail(problems.String(), 2000))
	}
	return out.Bytes(), nil
}

// podOf is the pod that is named, or one of the workload that is ready, as kubectl exec
// finds them.
func (c Cluster) podOf(ctx context.Context, namespace, where string) (pod corev1.Pod, err error) {
	if strings.HasPrefix(where, "pod/") {
		return Get[corev1.Pod](ctx, c, "-n", namespace, where)
	}
	type workload struct {
		Spec struct {
			Selector *metav1.LabelSelector `json:"selector"`
		} `json:"spec"`
	}
	w, err := Get[workload](ctx, c, "-n", namespace, where)
	if err != nil {
		return pod, err
	}
	return pod, Await(ctx, Soon, "a pod of "+where, func(ctx context.Context) (bool, string, error) {
		pods, err := Get[corev1.PodList](ctx, c, "-n", namespace, "pods", "-l", metav1.FormatLabelSelector(w.Spec.Selector))
		for _, p := range pods.Items {
			if p.DeletionTimestamp == nil && isReady(p) {
				pod = p
				return true, "", err
			}
		}
		return false, fmt.Sprintf("%d pods", len(pods.Items)), err
	})
}

func isReady(p corev1.Pod) bool {
	for _, condition := range p.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}
