package lacks

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	scheduling "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// places names pods for which there is no node. None of it fails the run: a
// cluster may make nodes when pods wait.
func (s *search) places(context.Context) error {
	for _, p := range s.pods {
		if why := s.noPlace(&p.pod); why != "" {
			s.lack(p.ref, NoNode, false, "%s: its pods will wait; label or add a node, or change the pods with spec.overrides", why)
		}
	}
	return nil
}

// noPlace says why no node takes the pod; empty if one does.
func (s *search) noPlace(pod *corev1.Pod) string {
	affine := s.affine(pod)
	if len(affine) == 0 {
		return wanted(pod)
	}
	for _, key := range topologies(pod) {
		if !slices.ContainsFunc(affine, func(n *corev1.Node) bool { return n.Labels[key] != "" }) {
			return "no node here that fits has the label " + key + ", by which its pods are to be spread or put together"
		}
	}
	tolerated := slices.DeleteFunc(slices.Clone(affine), func(n *corev1.Node) bool { return !tolerates(pod, n) })
	if len(tolerated) == 0 {
		return "every node here that fits has a taint that its pods do not tolerate"
	}
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	if !slices.ContainsFunc(tolerated, func(n *corev1.Node) bool { return large(n, requests) }) {
		return fmt.Sprintf("no node here that fits is large enough for one of its pods (%s)", listOf(requests))
	}
	return ""
}

// fitting are the nodes that a pod of a DaemonSet would run on.
func (s *search) fitting(pod *corev1.Pod) []*corev1.Node {
	return slices.DeleteFunc(s.affine(pod), func(n *corev1.Node) bool { return !tolerates(pod, n) })
}

// affine are the nodes that the pod's nodeSelector and nodeAffinity allow. A
// malformed affinity is the object's own survey to tell.
func (s *search) affine(pod *corev1.Pod) []*corev1.Node {
	required := nodeaffinity.GetRequiredNodeAffinity(pod)
	var out []*corev1.Node
	for i := range s.nodes {
		if ok, err := required.Match(&s.nodes[i]); ok || err != nil {
			out = append(out, &s.nodes[i])
		}
	}
	return out
}

func tolerates(pod *corev1.Pod, n *corev1.Node) bool {
	_, found := scheduling.FindMatchingUntoleratedTaint(klog.Background(), n.Spec.Taints, pod.Spec.Tolerations, func(t *corev1.Taint) bool {
		// What a node suffers from passes, and so does a cordon.
		return (t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute) && !strings.HasPrefix(t.Key, "node.kubernetes.io/")
	}, false)
	return !found
}

func large(n *corev1.Node, requests corev1.ResourceList) bool {
	for name, quantity := range requests {
		if has, told := n.Status.Allocatable[name]; told && has.Cmp(quantity) < 0 || !told && !quantity.IsZero() && len(n.Status.Allocatable) > 0 {
			return false
		}
	}
	return true
}

// wanted says what the pod asks of a node.
func wanted(pod *corev1.Pod) string {
	var all []string
	for key, value := range pod.Spec.NodeSelector {
		all = append(all, key+"="+value)
	}
	slices.Sort(all)
	var what []string
	if len(all) > 0 {
		what = append(what, "its nodeSelector ("+strings.Join(all, ",")+")")
	}
	if pod.Spec.Affinity != nil && pod.Spec.Affinity.NodeAffinity != nil && pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		what = append(what, "its nodeAffinity ("+termsOf(pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution)+")")
	}
	if len(what) == 0 {
		return "there is no node here"
	}
	return "no node here has the labels of " + strings.Join(what, " and ")
}

func termsOf(s *corev1.NodeSelector) string {
	var terms []string
	for _, term := range s.NodeSelectorTerms {
		var all []string
		for _, e := range append(slices.Clone(term.MatchExpressions), term.MatchFields...) {
			all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Key, e.Operator, strings.Join(e.Values, ","))))
		}
		terms = append(terms, strings.Join(all, " and "))
	}
	return strings.Join(terms, ", or ")
}

// topologies are labels without which a node cannot take the pod.
func topologies(pod *corev1.Pod) []string {
	var keys []string
	for _, c := range pod.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			keys = append(keys, c.TopologyKey)
		}
	}
	if pod.Spec.Affinity != nil && pod.Spec.Affinity.PodAffinity != nil {
		for _, term := range pod.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			keys = append(keys, term.TopologyKey)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func listOf(r corev1.ResourceList) string {
	var all []string
	for name, quantity := range r {
		all = append(all, fmt.Sprintf("%s %s", name, quantity.String()))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
