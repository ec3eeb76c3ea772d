package admission

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	security "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// judgePods holds pods, and whatever makes pods, against the level "baseline":
// beyond it a pod can take its node, and with that the cluster. Where the
// target's namespace is labelled "privileged", its owner has said otherwise.
// Stricter levels are Kubernetes' own to enforce.
func (v verdict) judgePods(ctx context.Context) (string, error) {
	pods := podsIn(v.then.Object)
	if len(pods) == 0 {
		return "", nil
	}
	level, err := v.cluster.PodSecurity(ctx, v.object.GetNamespace())
	if err != nil {
		return "", err
	}
	if level == string(security.LevelPrivileged) {
		return "", nil
	}
	checks, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return "", fmt.Errorf("set up pod security checks: %w", err)
	}
	baseline := security.LevelVersion{Level: security.LevelBaseline, Version: security.LatestVersion()}
	for _, pod := range pods {
		var spec corev1.PodSpec
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(pod.spec, &spec); err != nil {
			if custom(v.object.GroupVersionKind().Group) {
				continue // It only looks like a pod.
			}
			return fmt.Sprintf("its pod is malformed: %v", err), nil
		}
		result := policy.AggregateCheckResults(checks.EvaluatePod(baseline, &metav1.ObjectMeta{Annotations: pod.annotations}, &spec))
		if !result.Allowed {
			return fmt.Sprintf("its pod could take over the node (%s): label namespace %s here with pod-security.kubernetes.io/enforce=privileged if it may%s",
				result.ForbiddenDetail(), v.object.GetNamespace(), adminRemedy), nil
		}
	}
	return "", nil
}

// pod is something that has containers, wherever in an object it stands.
type pod struct {
	spec        map[string]any
	annotations map[string]string
}

// podsIn finds them at any depth, so that a kind of workload that is not known
// here is looked at as well.
func podsIn(object map[string]any) []pod {
	var found []pod
	var walk func(value any, beside map[string]any)
	walk = func(value any, beside map[string]any) {
		switch v := value.(type) {
		case map[string]any:
			if hasContainers(v) {
				found = append(found, pod{spec: v, annotations: annotationsOf(beside)})
			}
			for key, child := range v {
				if key != "status" && key != "managedFields" {
					walk(child, v)
				}
			}
		case []any:
			for _, child := range v {
				walk(child, beside)
			}
		}
	}
	walk(object, nil)
	return found
}

func hasContainers(fields map[string]any) bool {
	for key, value := range fields {
		items, ok := value.([]any)
		if !ok || !strings.HasSuffix(strings.ToLower(key), "containers") {
			continue
		}
		for _, item := range items {
			if _, ok := item.(map[string]any); ok {
				return true
			}
		}
	}
	return false
}

func annotationsOf(fields map[string]any) map[string]string {
	metadata, _ := fields["metadata"].(map[string]any)
	raw, _ := metadata["annotations"].(map[string]any)
	annotations := make(map[string]string, len(raw))
	for key, value := range raw {
		if text, ok := value.(string); ok {
			annotations[key] = text
		}
	}
	return annotations
}
