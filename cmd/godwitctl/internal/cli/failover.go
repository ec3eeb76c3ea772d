package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// failoverFlags are the flags of perform failover.
type failoverFlags struct {
	reference, to string
	// skip leaves the source alone; takeOver takes it from whichever cluster has it.
	dryRun, wait, skip, takeOver bool
	// include and exclude choose of the namespaces.
	include, exclude []string
}

func newPerform(s *session) *cobra.Command {
	perform := &cobra.Command{
		Use: "perform", Short: "Bring an application up from its standby", Args: cobra.ArbitraryArgs,
		RunE: group("what to perform", "failover or failback"),
	}
	var f failoverFlags
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Move an application to its target, with the source stopped, or without the source",
		Long: `Move an application to its target.

The application is stopped on the source, what is left is moved, and it starts on
the target. Nothing is lost; if anything goes wrong, it runs on. On the target, the
source is asked to do so; where it does not answer within ten seconds, or with
--skip-source-operations, the application starts from the last sealed round, and
what was written on the source since is not in it. Once this cluster has the
application, it takes no round of the source any more.

Example:
  ` + s.program + ` --context SOURCE perform failover -m cms-dr -n cms
  ` + s.program + ` --context TARGET perform failover -m cms-dr -n cms
  ` + s.program + ` --context TARGET perform failover -m cms/cms --skip-source-operations`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := noNames(cmd, args); err != nil {
				return err
			}
			return s.failover(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.reference, "migration-reference", "m", "", "MigrationSchedule; on the target also the application (namespace/name) or Standby, see get standby (required)")
	flags.StringVar(&f.to, "to", "", "On the target: round to go by, as get recoverypoints shows it; the source is asked nothing")
	flags.BoolVar(&f.dryRun, "dry-run", false, "Only say what it would do")
	flags.BoolVar(&f.wait, "wait", true, "Show how it fares until the application is up")
	flags.BoolVar(&f.takeOver, "take-over", false, "On the target: take it from the cluster that was activated before, which is gone; the source is asked nothing")
	flags.BoolVar(&f.skip, "skip-source-operations", false, "On the target: ask nothing of the source, which may be gone")
	addNamespaceFlags(flags, &f.include, &f.exclude)
	perform.AddCommand(cmd, newFailback(s))
	return perform
}

func (s *session) failover(ctx context.Context, f failoverFlags) error {
	if f.reference == "" {
		return errors.New("--migration-reference is missing: name the application, as get standby shows it")
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	schedule, err := s.scheduleNamed(ctx, c, f.reference)
	switch {
	case err != nil:
		return err
	case schedule != nil && !schedule.IsCopy():
		return s.plannedFailover(ctx, c, f, schedule)
	}
	return s.failoverHere(ctx, c, f, schedule)
}

// asksSource is true where the source is to stop the application first, if it answers.
func (f failoverFlags) asksSource() bool { return !f.skip && !f.takeOver && f.to == "" }

// failoverHere brings an application up on this cluster, its target.
func (s *session) failoverHere(ctx context.Context, c client.WithWatch, f failoverFlags, copied *api.MigrationSchedule) error {
	reference := f.reference
	if copied != nil {
		reference = copied.Annotations[api.AnnotationCopyStandby]
	}
	standby, err := s.standbyElsewhere(ctx, c, reference)
	if err != nil {
		return err
	}
	if copied == nil {
		if copied, err = s.copyOf(ctx, c, standby); err != nil {
			return err
		}
	}
	if err := offered(standby, f.to); err != nil {
		return err
	}
	namespaces, err := choose(standby.Spec.Namespaces, f.include, f.exclude)
	if err != nil {
		return err
	}
	asks := copied != nil && f.asksSource() && standby.Spec.Activation == nil
	if asks {
		err = s.out("The source is asked to stop %s and to move what is left: then nothing is lost. If it does not answer:", standby.Spec.Application)
	}
	if err == nil {
		err = s.out("%s", foretell(standby, f.to, time.Now()))
	}
	if err != nil || f.dryRun {
		return err
	}
	if !asks {
		return s.activate(ctx, c, standby, f)
	}
	return s.perform(ctx, c, copied.Namespace, copied.Name, f.wait, api.ActionSpec{
		ActionType: api.ActionFailover,
		ActionParameter: api.ActionParameter{FailoverParameter: &api.FailoverParameter{
			MigrationScheduleReference: copied.Name, FailoverNamespaces: namespaces,
		}},
	})
}

// copyOf is the copy of the schedule that a standby is replicated by; nil for none.
func (s *session) copyOf(ctx context.Context, c client.Client, standby *api.Standby) (*api.MigrationSchedule, error) {
	namespace, _, _ := strings.Cut(standby.Spec.Application, "/")
	var list api.MigrationScheduleList
	if err := c.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, s.fail("list MigrationSchedules", err)
	}
	for i := range list.Items {
		if m := &list.Items[i]; m.IsCopy() && m.Annotations[api.AnnotationCopyStandby] == standby.Name {
			return m, nil
		}
	}
	return nil, nil //nolint:nilnil // there need not be one
}

// activate asks for the activation, unless it is asked for already.
func (s *session) activate(ctx context.Context, c client.WithWatch, standby *api.Standby, f failoverFlags) error {
	switch there := standby.Spec.Activation; {
	case there == nil || there.Round != f.to && f.to != "" && !activating(standby):
		before := standby.DeepCopy()
		standby.Spec.Activation = &api.StandbyActivation{Round: f.to, TakeOver: f.takeOver}
		if err := c.Patch(ctx, standby, client.MergeFrom(before)); err != nil {
			return s.fail("activate Standby "+standby.Name, err)
		}
		if err := s.out("Started failover for %s", standby.Spec.Application); err != nil {
			return err
		}
	case f.to != "" && there.Round != f.to:
		return fmt.Errorf("standby %s is being activated as of round %s: it cannot turn to %s any more", standby.Name, standby.Spec.Round, f.to)
	}
	if !f.wait {
		return s.out("To check failover status use the command : `%s get standby %s -o wide`", s.program, standby.Name)
	}
	return s.awaitStandby(ctx, c, standby)
}

// standbyElsewhere finds the standby of an application that is not on this cluster yet.
func (s *session) standbyElsewhere(ctx context.Context, c client.Client, reference string) (*api.Standby, error) {
	standby, err := s.findStandby(ctx, c, reference)
	if err == nil && standby.Spec.Activation == nil && standby.Here() {
		err = fmt.Errorf("%s is on this cluster already: its volumes were handed over as of round %s (Standby %s), and there is nothing to fail over to", standby.Spec.Application, standby.Status.Round, standby.Name)
	}
	return standby, err
}

// offered refuses a round that is known not to be there. Where the list is cut off,
// or not there, the target itself says so.
func offered(s *api.Standby, to string) error {
	points := s.Status.Points
	if to == "" || points == nil || points.Listed == nil || inSnapshots(s, to) {
		return nil
	}
	var there []string
	for _, p := range points.Items {
		switch {
		case p.Round == to && p.Seal == api.SealValid:
			return nil
		case p.Round == to:
			return fmt.Errorf("round %s of %s is not to be used: %s", to, s.Spec.Application, p.Reason)
		case p.Seal == api.SealValid && len(there) < mostOffered:
			there = append(there, p.Round)
		}
	}
	if int(points.Total) > len(points.Items) || points.Listed.Time.Before(time.Now().Add(-pointsFresh)) {
		return nil
	}
	return fmt.Errorf("round %s of %s is not in the repository (there: %s): see get recoverypoints", to, s.Spec.Application, strings.Join(there, ", "))
}

// inSnapshots is true for a round that the target keeps snapshots of: it needs no
// repository.
func inSnapshots(s *api.Standby, round string) bool {
	return slices.ContainsFunc(s.Status.Snapshots, func(e api.StandbySnapshot) bool { return e.Ready && e.Round == round })
}

const (
	// mostOffered is how many rounds a message names.
	mostOffered = 5
	// pointsFresh is how old a list may be to say that a round is not there.
	pointsFresh = 5 * time.Minute
)

// activating is true once it is settled by which round a standby is activated.
func activating(s *api.Standby) bool {
	return meta.FindStatusCondition(s.Status.Conditions, "Activating") != nil
}

// findStandby finds the standby that the words name, by its application or itself.
func (s *session) findStandby(ctx context.Context, c client.Client, words string) (*api.Standby, error) {
	objs, err := s.listed(ctx, c, selection{kind: standbyKind()}, s.home)
	if err != nil {
		return nil, err
	}
	namespace, err := s.namespace()
	if err != nil {
		return nil, err
	}
	var found []*api.Standby
	var there []string
	for _, obj := range objs {
		standby, ok := obj.(*api.Standby)
		if !ok {
			return nil, fmt.Errorf("list Standbys: %T is none", obj)
		}
		if standby.Spec.Drill != nil {
			continue // Somebody tries it; it is no standby of anything.
		}
		there = append(there, standby.Spec.Application)
		if a := standby.Spec.Application; standby.Name == words || a == words || a == namespace+"/"+words {
			found = append(found, standby)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		known := "none"
		if len(there) > 0 {
			known = strings.Join(there, ", ")
		}
		return nil, fmt.Errorf("this cluster keeps no standby of %s (it keeps: %s): check --migration-reference, and that --context is the target", words, known)
	}
	return nil, fmt.Errorf("%d standbys are of %s, from several pairs: name one by its own name, as get standby shows it", len(found), words)
}

// foretell says what will be brought up, and what will not be in it.
func foretell(s *api.Standby, to string, now time.Time) string {
	held := s.Status.Round
	if held == "" {
		held = s.Status.Previous
	}
	at := "no round is whole here yet"
	newest := newestPoint(s)
	if held != "" {
		at = "the round that is here whole is " + held + age(held, now)
	}
	will := "The newest round that was sealed is activated"
	if newest != "" {
		will += " (the repository has " + newest + age(newest, now) + ")"
	}
	if to != "" {
		will = "Round " + to + age(to, now) + " is activated"
		if to != held && inSnapshots(s, to) {
			will += ", by volumes that are made of the snapshots which this cluster keeps of it"
		}
	}
	return fmt.Sprintf("%s (Standby %s): %s.\n%s; what was written on the source since its snapshots is not in it.", s.Spec.Application, s.Name, at, will)
}

// newestPoint is the newest round that is known to be in the repository.
func newestPoint(s *api.Standby) string {
	if s.Status.Points == nil {
		return ""
	}
	for _, p := range s.Status.Points.Items {
		if p.Seal == api.SealValid {
			return p.Round
		}
	}
	return ""
}

// age tells how long ago a round was, by the time that its name begins with.
func age(round string, now time.Time) string {
	stamp, _, _ := strings.Cut(round, "-")
	at, err := time.Parse("20060102T150405Z", stamp)
	if err != nil {
		return ""
	}
	return ", " + quantity.Duration(now.Sub(at)) + " old"
}

// awaitStandby tells how a standby fares until its application is up.
func (s *session) awaitStandby(ctx context.Context, c client.WithWatch, standby *api.Standby) error {
	said, by, up := "", "", false
	follow := &follower{
		client: c, kind: standbyKind(), notice: s.notice,
		opts: []client.ListOption{
			client.InNamespace(standby.Namespace),
			client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", standby.Name)},
		},
		each: func(ch change) (bool, error) {
			now, ok := ch.object.(*api.Standby)
			if !ok || ch.removed {
				return true, fmt.Errorf("standby %s was deleted meanwhile", standby.Name)
			}
			line := progressOf(now)
			if line != said {
				said = line
				if err := s.out("%s", line); err != nil {
					return true, err
				}
			}
			var err error
			up, by, err = activated(now, standby.Generation)
			return up || err != nil, err
		},
	}
	if err := follow.run(ctx); err != nil {
		return s.fail("watch Standby "+standby.Name, err)
	}
	if !up {
		if err := s.hint("no longer watching; the failover goes on: %s get standby %s -o wide", s.program, standby.Name); err != nil {
			return err
		}
		return errInterrupted
	}
	if by != "" {
		// What is given up is said where everybody looks.
		if err := s.out("%s", by); err != nil {
			return err
		}
	}
	return s.out("Failover of %s completed successfully", standby.Spec.Application)
}

// activated reports whether the application is up, and by which round; an error says
// that it will not be. What was said of a wish of before the generation does not count.
func activated(s *api.Standby, generation int64) (up bool, by string, err error) {
	raised := meta.FindStatusCondition(s.Status.Conditions, "EpochRaised")
	switch {
	case raised != nil && raised.Status == metav1.ConditionFalse && raised.ObservedGeneration >= generation:
		return false, "", fmt.Errorf("failover of %s failed: %s: go there, or, if that cluster is gone, take it over with --take-over", s.Spec.Application, raised.Message)
	case s.Status.Activating && s.Status.Phase == api.StandbyFailed:
		return false, "", fmt.Errorf("failover of %s failed: %s: name an older round with --to", s.Spec.Application, s.Status.Message)
	case s.Status.Activating && s.Status.Phase == api.StandbyReady:
		if chosen := meta.FindStatusCondition(s.Status.Conditions, "Activating"); chosen != nil {
			by = chosen.Message
		}
		return true, by, nil
	}
	return false, "", nil
}

func progressOf(s *api.Standby) string {
	if !s.Status.Activating {
		return strings.TrimSpace("choosing the round " + s.Status.Message)
	}
	held, over := 0, 0
	for _, v := range s.Status.Volumes {
		if v.Image != "" && v.Image == v.Wants {
			held++
		}
		if v.HandedOver {
			over++
		}
	}
	line := fmt.Sprintf("round %s: %s, volumes %d/%d whole, %d/%d handed over", s.Spec.Round, s.Status.Phase, held, len(s.Status.Volumes), over, len(s.Status.Volumes))
	if s.Status.Message != "" {
		line += ": " + s.Status.Message
	}
	return line
}
