package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload"
)

// planFlags are the flags of plan.
type planFlags struct {
	file    string
	pair    string
	timeout time.Duration
	all     bool
}

// planned is what a dry run of one Migration found out.
type planned struct {
	Name      string                    `json:"name"`
	Namespace string                    `json:"namespace"`
	Problems  []string                  `json:"problems,omitempty"`
	Volumes   []api.MigrationVolumeInfo `json:"volumes,omitempty"`
	// LastRounds are the volumes' newest good rounds to the same target, by
	// namespace/claim: what changed since is known once there is a snapshot.
	LastRounds map[string]lastRound `json:"lastRounds,omitempty"`
	// Seconds are for the volumes, at the rate of earlier runs; 0 without any.
	Seconds int64 `json:"estimatedSeconds,omitempty"`
	workload.Plan
}

// lastRound is what an earlier round found changed in a volume, and how.
type lastRound struct {
	Migration     string       `json:"migration"`
	Taken         *metav1.Time `json:"taken,omitempty"`
	Rung          string       `json:"rung"`
	BytesChanged  int64        `json:"bytesChanged"`
	BytesUploaded int64        `json:"bytesUploaded"`
}

// errPlan says that a run would fail; what would was printed.
var errPlan = errors.New("this would fail: nothing was done; see the problems above")

func newPlan(s *session) *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use:   "plan [NAME | -f FILE]",
		Short: "Show what a Migration would do, and do nothing",
		Long: `Show what a Migration would do, and do nothing. Run it on the source.

Every object is shown with what would become of it on the target, after all
transformations; what does not move, with the reason; and what would fail. The
exit code is not zero when the run would fail.

NAME is a Migration that is there, for running it once more. FILE holds
Migrations, or a PropagationPolicy of Karmada, whose selectors and
conflictResolution are taken.

Examples:
  ` + s.program + ` plan -f migration.yaml
  ` + s.program + ` plan -n cms -f policy.yaml -c prodcluster -o json`,
		Annotations: uses(usesOutput),
		RunE:        func(cmd *cobra.Command, args []string) error { return s.plan(cmd.Context(), f, args) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "file", "f", "", "File with the Migration (- is standard input)")
	flags.StringVarP(&f.pair, "clusterPair", "c", "", "ClusterPair that leads to the target, for a PropagationPolicy")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Minute, "How long to wait for both clusters")
	flags.BoolVar(&f.all, "all", false, "List every object that does not move, and every unchanged one")
	return cmd
}

func (s *session) plan(ctx context.Context, f planFlags, args []string) error {
	if (f.file == "") == (len(args) == 0) || len(args) > 1 {
		return errors.New("plan needs one Migration: give its name, or its file with --file")
	}
	var migrations []*api.Migration
	var err error
	if f.file != "" {
		if migrations, err = s.readPlannable(f); err != nil {
			return err
		}
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	if len(args) == 1 {
		m, err := s.there(ctx, c, args[0])
		if err != nil {
			return err
		}
		migrations = append(migrations, m)
	}
	var plans []planned
	for _, m := range migrations {
		p, err := s.planOne(ctx, c, m, f)
		if err != nil {
			return err
		}
		plans = append(plans, p)
	}
	if !s.tabular() {
		err = s.printPlans(plans)
	} else {
		err = s.showPlans(plans, f.all)
	}
	if err != nil {
		return err
	}
	for _, p := range plans {
		if len(p.Problems) > 0 {
			return errPlan
		}
	}
	return nil
}

// there is the Migration of that name.
func (s *session) there(ctx context.Context, c client.Client, name string) (*api.Migration, error) {
	namespace, err := s.namespace()
	if err != nil {
		return nil, err
	}
	var m api.Migration
	if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &m); err != nil {
		return nil, s.fail(fmt.Sprintf("plan Migration %s in namespace %s", name, namespace), err)
	}
	return &m, nil
}

// planOne lets the controller make a dry run, and clears it away.
func (s *session) planOne(ctx context.Context, c client.WithWatch, m *api.Migration, f planFlags) (p planned, err error) {
	name := m.Name
	if m.Namespace == "" {
		if m.Namespace, err = s.namespace(); err != nil {
			return p, err
		}
	}
	if err := s.pairThere(ctx, c, m); err != nil {
		return p, err
	}
	dry := true
	run := &api.Migration{Spec: m.Spec}
	run.Namespace, run.GenerateName = m.Namespace, "plan-"+cut(name, 40)+"-"
	run.Spec.DryRun = &dry
	if err := c.Create(ctx, run); err != nil {
		return p, s.fail(fmt.Sprintf("plan Migration %s in namespace %s", name, m.Namespace), err)
	}
	defer func() {
		gone := c.Delete(context.WithoutCancel(ctx), run)
		err = errors.Join(err, client.IgnoreNotFound(gone))
	}()
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	ended, err := s.awaitPlan(ctx, c, client.ObjectKeyFromObject(run))
	if err != nil {
		return p, err
	}
	if p, err = read(name, ended); err != nil {
		return p, err
	}
	earlier, err := s.earlier(ctx, c, m)
	if err != nil {
		return p, err
	}
	p.Seconds, p.LastRounds = estimate(earlier, p.Volumes), lastRounds(earlier, p.Volumes)
	return p, nil
}

// earlier are the namespace's good runs to the same target.
func (s *session) earlier(ctx context.Context, c client.Client, m *api.Migration) ([]api.Migration, error) {
	var all api.MigrationList
	if err := c.List(ctx, &all, client.InNamespace(m.Namespace)); err != nil {
		return nil, s.fail("look for earlier Migrations", err)
	}
	return slices.DeleteFunc(all.Items, func(e api.Migration) bool {
		return e.Spec.ClusterPair != m.Spec.ClusterPair || e.Status.Summary == nil || e.Status.Status != api.MigrationStatusSuccessful
	}), nil
}

// lastRounds tells of each volume what its newest round found changed.
func lastRounds(earlier []api.Migration, volumes []api.MigrationVolumeInfo) map[string]lastRound {
	last := make(map[string]lastRound)
	for _, wanted := range volumes {
		key := wanted.Namespace + "/" + wanted.PersistentVolumeClaim
		for _, e := range earlier {
			for _, v := range e.Status.Volumes {
				if v.Namespace+"/"+v.PersistentVolumeClaim != key || v.Rung == "" || v.Taken == nil || v.Volume != wanted.Volume {
					continue
				}
				if known, found := last[key]; found && !known.Taken.Before(v.Taken) {
					continue
				}
				last[key] = lastRound{Migration: e.Name, Taken: v.Taken, Rung: v.Rung, BytesChanged: v.BytesChanged, BytesUploaded: v.BytesUploaded}
			}
		}
	}
	return last
}

// estimate goes by the rate of earlier runs; it is 0 where there is none.
func estimate(earlier []api.Migration, volumes []api.MigrationVolumeInfo) int64 {
	var moved, bytes int64
	var took time.Duration
	for _, e := range earlier {
		elapsed, err := time.ParseDuration(e.Status.Summary.ElapsedTimeForVolumeMigration)
		if err != nil {
			continue // "NA" of a run without volumes.
		}
		moved, took = moved+e.Status.Summary.TotalBytesMigrated, took+elapsed
	}
	for _, v := range volumes {
		bytes += v.BytesTotal
	}
	if moved == 0 || took <= 0 {
		return 0
	}
	return int64(float64(bytes) / float64(moved) * took.Seconds())
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// awaitPlan follows the dry run to its end.
func (s *session) awaitPlan(ctx context.Context, c client.WithWatch, key client.ObjectKey) (*api.Migration, error) {
	var last *api.Migration
	ended := false
	f := follower{
		client: c, kind: migrationKind(), opts: []client.ListOption{client.InNamespace(key.Namespace)},
		each: func(ch change) (bool, error) {
			m, ok := ch.object.(*api.Migration)
			if !ok || m.Name != key.Name {
				return false, nil
			}
			if ch.removed {
				return false, fmt.Errorf("Migration %s was deleted while it was planned: plan again", key)
			}
			last, ended = m, m.Status.Stage == api.MigrationStageFinal
			return ended, nil
		},
		notice: s.notice,
	}
	if err := f.run(ctx); err != nil {
		return nil, s.fail("plan", err)
	}
	switch {
	case ended:
		return last, nil
	case last != nil && readyMessage(last) != "":
		return nil, fmt.Errorf("plan: no answer in time: %s", readyMessage(last))
	}
	return nil, fmt.Errorf("plan: no answer in time: check that Godwit's controller runs (kubectl get pods -n %s)", s.home)
}

func readyMessage(m *api.Migration) string {
	for _, condition := range m.Status.Conditions {
		if condition.Type == api.ConditionReady {
			return condition.Message
		}
	}
	return ""
}

func read(name string, m *api.Migration) (planned, error) {
	p := planned{Name: name, Namespace: m.Namespace, Volumes: m.Status.Volumes}
	if m.Status.Plan != nil {
		p.Problems = m.Status.Plan.Problems
		data, err := workload.Expand(m.Status.Plan.Details)
		if err == nil {
			err = json.Unmarshal(data, &p.Plan)
		}
		if err != nil {
			return p, fmt.Errorf("read the plan of Migration %s: %w", name, err)
		}
	}
	if m.Status.Status == api.MigrationStatusFailed && len(p.Problems) == 0 {
		p.Problems = []string{readyMessage(m)}
	}
	return p, nil
}
