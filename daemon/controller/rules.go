package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/rule"
)

// +kubebuilder:rbac:groups=godwit.io,resources=rules,verbs=list;watch

// The conditions that remember how far the rules are. The first two are there
// from the moment at which the commands were written down.
const (
	conditionPreRule  = "PreExecRule"
	conditionPostRule = "PostExecRule"
	// conditionHoldReleased is true once no command of preExecRule runs.
	conditionHoldReleased = "HoldReleased"
	// conditionRulesCleared is true once nothing of the rules is left in a pod.
	conditionRulesCleared = "RulesCleared"
)

// observeRules tells what of the rules is open; before the Migration is admitted
// also whether they can be carried out at all.
func (x *run) observeRules(ctx context.Context) error {
	o, spec := &x.observed, x.m.Spec
	o.Rules.PreOpen = spec.PreExecRule != "" && !x.has(conditionPreRule)
	o.Rules.HoldOpen = spec.PreExecRule != "" && !x.has(conditionHoldReleased)
	o.Rules.PostOpen = spec.PostExecRule != "" && !x.has(conditionPostRule)
	if o.Admitted || o.Ended || o.Deleting {
		return nil
	}
	for phase, name := range map[rule.Phase]string{rule.PreExec: spec.PreExecRule, rule.PostExec: spec.PostExecRule} {
		if name == "" {
			continue
		}
		r, problem, err := x.ruleOf(ctx, phase, name)
		if err != nil {
			return err
		}
		if err := rule.Check(&r, phase); problem == "" && err != nil {
			problem = err.Error()
		}
		if problem != "" {
			o.Rules.Problem = problem
		}
	}
	return nil
}

// ruleOf reads a rule, or says why there is none to use.
func (x *run) ruleOf(ctx context.Context, phase rule.Phase, name string) (r api.Rule, problem string, err error) {
	if x.Commands == nil {
		return r, fmt.Sprintf("spec.%s: commands in pods are not enabled on this cluster: install Godwit with --set rules.enabled=true, or leave the rule out", phase), nil
	}
	err = x.Client.Get(ctx, types.NamespacedName{Namespace: x.m.Namespace, Name: name}, &r)
	if apierrors.IsNotFound(err) {
		return r, fmt.Sprintf("spec.%s: Rule %s does not exist in namespace %s: create it, or correct its name", phase, name, x.m.Namespace), nil
	}
	if err != nil {
		return r, "", fmt.Errorf("read Rule %s/%s: %w", x.m.Namespace, name, err)
	}
	return r, "", nil
}

// frozen is true as long as the application may be kept still by its rules.
func (x *run) frozen() bool { return x.observed.Rules.HoldOpen || x.observed.Rules.PostOpen }

// preRule runs the commands before the snapshots: written down first, then
// started, then looked after until each has ended or is held.
func (x *run) preRule(ctx context.Context) error {
	s := &x.m.Status
	s.Status = api.MigrationStatusInProgress
	through, failed, err := x.runRule(ctx, rule.PreExec, x.m.Spec.PreExecRule)
	if err != nil {
		return err
	}
	if failed != "" {
		return final("PreExecRuleFailed", "before the snapshots: %s", failed)
	}
	if through {
		s.Stage = api.MigrationStageVolumes
		x.mark(conditionPreRule, "Through", held(s.Rules.PreExec))
	}
	return nil
}

func held(tasks []api.RuleTask) string {
	waiting := 0
	for _, t := range tasks {
		if t.State == api.RuleTaskWaiting {
			waiting++
		}
	}
	return fmt.Sprintf("%d commands ran before the snapshots, %d of them are held until the snapshots are cut", len(tasks), waiting)
}

// releaseHold lets the application go on. A hold that was lost meanwhile means
// that the snapshots are of no quiet moment.
func (x *run) releaseHold(ctx context.Context) error {
	tasks := x.m.Status.Rules.PreExec
	through, err := x.Commands.Release(ctx, tasks)
	if err != nil || !through {
		return err
	}
	if _, failed := rule.Through(tasks); failed != nil {
		return final("PreExecRuleFailed", "at the snapshots: %s", failed.Message)
	}
	x.mark(conditionHoldReleased, "Released", "no command of preExecRule runs")
	return nil
}

// postRule runs the commands after the snapshots.
func (x *run) postRule(ctx context.Context) error {
	through, failed, err := x.runRule(ctx, rule.PostExec, x.m.Spec.PostExecRule)
	if err != nil {
		return err
	}
	if failed != "" {
		return final("PostExecRuleFailed", "after the snapshots: %s", failed)
	}
	if through {
		x.mark(conditionPostRule, "Through", fmt.Sprintf("%d commands ran after the snapshots", len(x.m.Status.Rules.PostExec)))
	}
	return nil
}

// runRule takes the commands of a rule a step further. failed says what ended it.
func (x *run) runRule(ctx context.Context, phase rule.Phase, name string) (through bool, failed string, err error) {
	condition := conditionPreRule
	if phase == rule.PostExec {
		condition = conditionPostRule
	}
	if meta.FindStatusCondition(x.m.Status.Conditions, condition) == nil {
		failed, err := x.planRule(ctx, phase, name)
		return false, failed, err // Written down before anything is started.
	}
	tasks := x.tasks(phase)
	if x.Commands == nil {
		return false, "", final("RuleNotUsable", "spec.%s: commands in pods are not enabled any more on this cluster", phase)
	}
	if err := x.Commands.Advance(ctx, tasks); err != nil {
		return false, "", err
	}
	through, task := rule.Through(tasks)
	if task != nil {
		return false, task.Message, nil
	}
	x.working(condition, fmt.Sprintf("running the commands of Rule %s: %s", name, progress(tasks)))
	return through, "", nil
}

func (x *run) tasks(phase rule.Phase) []api.RuleTask {
	if phase == rule.PostExec {
		return x.m.Status.Rules.PostExec
	}
	return x.m.Status.Rules.PreExec
}

// progress names what is waited for.
func progress(tasks []api.RuleTask) string {
	ended := 0
	var runs []string
	for _, t := range tasks {
		switch t.State {
		case api.RuleTaskDone, api.RuleTaskWaiting, api.RuleTaskFailed:
			ended++
		case api.RuleTaskStarted:
			runs = append(runs, t.Namespace+"/"+t.Pod)
		}
	}
	if len(runs) == 0 {
		return fmt.Sprintf("%d of %d", ended, len(tasks))
	}
	return fmt.Sprintf("%d of %d, waiting for pods %s", ended, len(tasks), strings.Join(runs, ", "))
}

// planRule writes down which commands run in which pods.
func (x *run) planRule(ctx context.Context, phase rule.Phase, name string) (problem string, err error) {
	r, problem, err := x.ruleOf(ctx, phase, name)
	if err != nil || problem != "" {
		return problem, err
	}
	var tasks []api.RuleTask
	unmatched := map[string]int{}
	for _, namespace := range x.namespaces() {
		var pods corev1.PodList
		if err := x.Live.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
			return "", fmt.Errorf("list the pods of namespace %s: %w", namespace, err)
		}
		planned, none, err := rule.Plan(&r, phase, pods.Items, string(x.m.UID))
		if err != nil {
			return err.Error(), nil
		}
		tasks = append(tasks, planned...)
		for _, selector := range none {
			unmatched[selector]++
		}
	}
	slices.SortStableFunc(tasks, func(a, b api.RuleTask) int { return a.Step - b.Step })
	if problem, err := x.nobodyToAsk(ctx, r, phase, tasks, unmatched); err != nil || problem != "" {
		return problem, err
	}
	if x.m.Status.Rules == nil {
		x.m.Status.Rules = &api.RuleStatus{}
	}
	condition := conditionPreRule
	if phase == rule.PreExec {
		x.m.Status.Rules.PreExec = tasks
	} else {
		condition, x.m.Status.Rules.PostExec = conditionPostRule, tasks
	}
	meta.SetStatusCondition(&x.m.Status.Conditions, metav1.Condition{
		Type: condition, Status: metav1.ConditionFalse, Reason: "Running", ObservedGeneration: x.m.Generation,
		Message: fmt.Sprintf("%d commands of Rule %s are to run", len(tasks), name),
	})
	return "", nil
}

// nobodyToAsk tells of selectors that no running pod has. A rule that finds
// nobody at all, while a pod has a volume that moves, would leave the
// application as busy as it is, and is refused.
func (x *run) nobodyToAsk(ctx context.Context, r api.Rule, phase rule.Phase, tasks []api.RuleTask, unmatched map[string]int) (string, error) {
	for selector, n := range unmatched {
		if n == len(x.namespaces()) {
			x.warn("RuleMatchesNoPod", "spec.%s: Rule %s: no running pod has the labels %s", phase, r.Name, selector)
		}
	}
	if len(tasks) > 0 || phase == rule.PostExec {
		return "", nil
	}
	user, err := x.userOfVolumes(ctx)
	if err != nil || user == "" {
		return "", err
	}
	return fmt.Sprintf("spec.%s: Rule %s matches no running pod, and yet %s: correct its podSelector", phase, r.Name, strings.TrimPrefix(user, "waiting for ")), nil
}

// endRules leaves nothing of the rules behind, however the Migration ended: it
// lets go what is held, runs postExecRule if preExecRule had begun, and removes
// what lies in the pods. It reports whether all is done.
func (x *run) endRules(ctx context.Context) (bool, error) {
	begun, err := x.rulesBegun(ctx)
	if err != nil || !begun || x.has(conditionRulesCleared) {
		return err == nil, err
	}
	through, err := x.settleRules(ctx)
	if err == nil && !through {
		return false, nil
	}
	if err != nil {
		if !x.endedFor(x.CommandLimit + time.Minute) {
			return false, err
		}
		x.warn("RulesNotCleared", "commands of the rules could not be asked to end (%v): they have let go by themselves, since none holds longer than %v", err, x.CommandLimit)
	}
	x.mark(conditionRulesCleared, "Cleared", "no command of the rules runs")
	return true, nil
}

// rulesBegun looks past the cache where it says that no command was written
// down: a hold must not be forgotten.
func (x *run) rulesBegun(ctx context.Context) (bool, error) {
	if x.m.Spec.PreExecRule == "" && x.m.Spec.PostExecRule == "" || x.m.Status.Rules != nil {
		return x.m.Status.Rules != nil, nil
	}
	var live api.Migration
	if err := x.Live.Get(ctx, client.ObjectKeyFromObject(x.m), &live); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	if live.Status.Rules != nil {
		return false, fmt.Errorf("migration %s/%s: its rules were begun a moment ago: looking again", x.m.Namespace, x.m.Name)
	}
	return false, nil
}

func (x *run) settleRules(ctx context.Context) (bool, error) {
	if x.Commands == nil {
		return false, errors.New("commands in pods are not enabled any more on this cluster")
	}
	rules := x.m.Status.Rules
	if !x.has(conditionHoldReleased) {
		through, err := x.Commands.Release(ctx, rules.PreExec)
		if err != nil || !through {
			return false, err
		}
		x.mark(conditionHoldReleased, "Released", "no command of preExecRule runs")
	}
	if x.m.Spec.PostExecRule != "" && !x.has(conditionPostRule) {
		through, failed, err := x.runRule(ctx, rule.PostExec, x.m.Spec.PostExecRule)
		if err != nil || !through && failed == "" {
			return false, err
		}
		if failed != "" {
			x.warn("PostExecRuleFailed", "%s", failed)
			if _, err := x.Commands.Release(ctx, rules.PostExec); err != nil {
				return false, err
			}
		}
		x.mark(conditionPostRule, "Through", "it ran since the Migration ended before its time")
	}
	return true, errors.Join(x.Commands.Clear(ctx, rules.PreExec), x.Commands.Clear(ctx, rules.PostExec))
}
