package lacks

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	security "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/godwit-io/godwit/daemon/workload"
)

// levels are what the namespaces that come along will enforce of PodSecurity.
type levels struct {
	checks policy.Evaluator
	of     map[string]security.LevelVersion
}

// levels reads the labels of the namespaces that would be written. A namespace
// without one has the level that the cluster's API server was started with, which
// nobody can ask it for.
func (s *search) levels() (levels, error) {
	l := levels{of: make(map[string]security.LevelVersion)}
	for i := range s.coming.Objects {
		obj := &s.coming.Objects[i].Unstructured
		ref := workload.RefOf(obj)
		labels := obj.GetLabels()
		if ref.Group != "" || ref.Kind != "Namespace" || labels[security.EnforceLevelLabel] == "" || !s.writes(ref) {
			continue
		}
		// A malformed label counts as the strictest level, as it does in Kubernetes.
		latest := security.Policy{Enforce: security.LevelVersion{Level: security.LevelPrivileged, Version: security.LatestVersion()}}
		wanted, _ := security.PolicyToEvaluate(labels, latest)
		l.of[ref.Name] = wanted.Enforce
	}
	var err error
	if l.checks, err = policy.NewEvaluator(policy.DefaultChecks(), nil); err != nil {
		return l, fmt.Errorf("set up pod security checks: %w", err)
	}
	return l, nil
}

// refusal is what the pod's namespace will have against it; empty for nothing.
func (l levels) refusal(pod *corev1.Pod) string {
	level, told := l.of[pod.Namespace]
	if !told {
		return ""
	}
	result := policy.AggregateCheckResults(l.checks.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec))
	if result.Allowed {
		return ""
	}
	return fmt.Sprintf("violates PodSecurity %q, which its namespace brings along: %s", level.String(), result.ForbiddenDetail())
}
