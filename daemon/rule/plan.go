package rule

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// Phase says when a rule runs.
type Phase string

// The phases, by the Migration's field that names the rule.
const (
	PreExec  Phase = "preExecRule"
	PostExec Phase = "postExecRule"
)

// waitWord is where a background command waits for the snapshots.
const waitWord = "${WAIT_CMD}"

// Check says what is wrong with a rule before anything is run.
func Check(r *api.Rule, phase Phase) error {
	for i, item := range r.Rules {
		if len(item.PodSelector) == 0 {
			return fmt.Errorf("rule %s/%s: rules[%d].podSelector is empty: name the labels of the pods to run in", r.Namespace, r.Name, i)
		}
		for j, a := range item.Actions {
			at := fmt.Sprintf("rule %s/%s: rules[%d].actions[%d]", r.Namespace, r.Name, i, j)
			switch {
			case a.Type != api.RuleActionCommand:
				return fmt.Errorf("%s.type is %q: the only type is command", at, a.Type)
			case strings.TrimSpace(a.Value) == "":
				return fmt.Errorf("%s.value is empty: give the command to run", at)
			case a.Background && phase == PostExec:
				return fmt.Errorf("%s: background actions are not supported for post exec rules", at)
			case a.Background && !strings.Contains(a.Value, waitWord):
				return fmt.Errorf("%s.value has no %s: put it where the command shall wait for the snapshots", at, waitWord)
			case !a.Background && strings.Contains(a.Value, waitWord):
				return fmt.Errorf("%s.value has %s, which only a background action may: set background: true", at, waitWord)
			}
		}
	}
	return nil
}

// Plan gives the tasks of a rule for the pods of one namespace, and the selectors
// that no running pod has. run tells the tasks of one run from those of others.
func Plan(r *api.Rule, phase Phase, pods []corev1.Pod, run string) (tasks []api.RuleTask, unmatched []string, err error) {
	if err := Check(r, phase); err != nil {
		return nil, nil, err
	}
	step := 0
	for _, item := range r.Rules {
		chosen := running(pods, labels.SelectorFromSet(item.PodSelector))
		if len(chosen) == 0 {
			unmatched = append(unmatched, labels.FormatLabels(item.PodSelector))
			continue
		}
		for _, a := range item.Actions {
			in := chosen
			if a.RunInSinglePod {
				in = chosen[:1]
			}
			for _, pod := range in {
				container, err := containerOf(pod, item.Container)
				if err != nil {
					return nil, nil, fmt.Errorf("rule %s/%s: %w", r.Namespace, r.Name, err)
				}
				tasks = append(tasks, api.RuleTask{
					ID: taskID(run, string(phase), string(pod.UID), fmt.Sprint(step)), Step: step,
					Namespace: pod.Namespace, Pod: pod.Name, PodUID: string(pod.UID), Container: container,
					Command: a.Value, Background: a.Background, State: api.RuleTaskPlanned,
				})
			}
			step++
		}
	}
	return tasks, unmatched, nil
}

// taskID is the same for the same task of the same run, however often it is planned.
func taskID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

func running(pods []corev1.Pod, selector labels.Selector) []corev1.Pod {
	var chosen []corev1.Pod
	for _, p := range pods {
		if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp.IsZero() && selector.Matches(labels.Set(p.Labels)) {
			chosen = append(chosen, p)
		}
	}
	slices.SortFunc(chosen, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return chosen
}

func containerOf(pod corev1.Pod, name string) (string, error) {
	if name == "" {
		return pod.Spec.Containers[0].Name, nil
	}
	for _, c := range pod.Spec.Containers {
		if c.Name == name {
			return name, nil
		}
	}
	return "", fmt.Errorf("pod %s/%s has no container %s: correct rules[].container", pod.Namespace, pod.Name, name)
}
