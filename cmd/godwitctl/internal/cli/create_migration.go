package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

// migrationFlags are the flags of create migration.
type migrationFlags struct {
	pair              string
	namespaces        []string
	includeResources  bool
	includeVolumes    bool
	startApplications bool
	classes           map[string]string
	method            string
	verify            string
	stage, quiesce    bool
	precopy           bool
	maxDowntime       time.Duration
	timeouts          map[string]string
	wait              bool
	dryRun            bool
	file              string
	policy            string
	rules             api.RuleOptions
}

func newCreateMigration(s *session) *cobra.Command {
	var f migrationFlags
	cmd := &cobra.Command{
		Use:     "migration NAME",
		Aliases: []string{"migrations"},
		Short:   "Start moving an application to another cluster",
		Long: `Start moving an application to another cluster. Run it on the source.

Example:
  ` + s.program + ` create migration cmsmigration -n cms --namespaces cms -c prodcluster --wait`,
		Annotations: uses(usesOutput),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.file != "" {
				return s.validateMigrations(cmd, f.file, args)
			}
			return s.createMigration(cmd.Context(), f, args)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.pair, "clusterPair", "c", "", "ClusterPair that leads to the target (required)")
	flags.StringSliceVar(&f.namespaces, "namespaces", nil, "Namespaces to move, separated by commas (required)")
	flags.BoolVarP(&f.includeResources, "includeResources", "r", true, "Move the objects too, and not only the volumes")
	flags.BoolVar(&f.includeVolumes, "includeVolumes", true, "Move the volumes' data")
	flags.BoolVarP(&f.startApplications, "startApplications", "a", true, "Start the applications on the target")
	flags.StringToStringVar(&f.classes, "storage-class-mapping", nil, "Storage classes of the target for those of the source, such as fast=gold,slow=silver")
	flags.StringVar(&f.method, "method", string(api.MethodAuto), "How volumes are read: Auto, Block or Filesystem")
	flags.StringVar(&f.verify, "verify", string(api.VerifySealed), "How the target's volumes are checked: Sealed, ReadBack, Sample or Full")
	flags.BoolVar(&f.stage, "stage", false, "Copy without stopping and without handing over; may be done as often as wanted")
	flags.BoolVar(&f.quiesce, "quiesce", false, "Stop the application on the source for this copy")
	flags.StringVar(&f.rules.PreExecRule, "preExecRule", "", "Rule to run in the application's pods before the snapshots")
	flags.StringVar(&f.rules.PostExecRule, "postExecRule", "", "Rule to run in the application's pods after the snapshots")
	flags.BoolVar(&f.precopy, "precopy", false, "Copy in rounds while the application runs, then stop it for a short last one")
	flags.DurationVar(&f.maxDowntime, "max-downtime", migrate.DefaultMaxDowntime, "With --precopy: how long the last copy shall take at most")
	flags.StringToStringVar(&f.timeouts, "timeouts", nil, "How long it may get no further at what it waits for, such as quiesce=10m,snapshots=2h; the others are unreachable, exposure, target and start")
	flags.BoolVar(&f.wait, "wait", false, "Show the progress until the Migration ends; fail if it does not succeed")
	flags.BoolVar(&f.dryRun, "dry-run", false, "Let the cluster check the Migration without creating it")
	flags.StringVar(&f.policy, "policy", "", "Take selectors and conflictResolution from this file with a PropagationPolicy of Karmada")
	flags.StringVarP(&f.file, "file", "f", "", "Only check the Migrations in this file (- is standard input)")
	return cmd
}

func (s *session) createMigration(ctx context.Context, f migrationFlags, args []string) error {
	m, err := s.wantedMigration(f, args)
	if err != nil {
		return err
	}
	if f.wait && (f.dryRun || !s.tabular()) {
		return errors.New("--wait shows progress, and --dry-run and --output json or yaml have none: leave one out")
	}
	if m.Namespace, err = s.namespace(); err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	if err := s.pairThere(ctx, c, m); err != nil {
		return err
	}
	var opts []client.CreateOption
	if f.dryRun {
		opts = append(opts, client.DryRunAll)
	}
	if err := c.Create(ctx, m, opts...); err != nil {
		return s.fail(fmt.Sprintf("create Migration %s in namespace %s", m.Name, m.Namespace), err)
	}
	if err := s.hintNamespaces(ctx, c, m.Spec.Namespaces); err != nil {
		return err
	}
	switch {
	case !s.tabular():
		return s.printObject(m)
	case f.dryRun:
		return s.out("Migration %v can be created (dry run: it was not)", m.Name)
	}
	if err := s.out("Migration %v created successfully", m.Name); err != nil || !f.wait {
		return err
	}
	return s.waitFor(ctx, c, client.ObjectKeyFromObject(m))
}

// wantedMigration is what the flags and a policy ask for.
func (s *session) wantedMigration(f migrationFlags, args []string) (*api.Migration, error) {
	m, err := f.migration(args)
	if err == nil && f.policy != "" {
		err = s.takePolicy(m, f.policy)
	}
	return m, err
}

// waitFor shows the progress of a Migration until it ends, and fails if it did
// not succeed.
func (s *session) waitFor(ctx context.Context, c client.WithWatch, key client.ObjectKey) error {
	ended, err := s.awaitMigration(ctx, c, key)
	if err != nil {
		return err
	}
	if err := outcome(ended); err != nil {
		return err
	}
	return s.out("Migration %v completed successfully", key.Name)
}

// migration is what the flags ask for.
func (f migrationFlags) migration(args []string) (*api.Migration, error) {
	name, err := exactlyOne("migration", args)
	if err != nil {
		return nil, err
	}
	if f.pair == "" {
		return nil, errors.New("ClusterPair name needs to be provided for migration")
	}
	if len(f.namespaces) == 0 {
		return nil, errors.New("need to provide atleast one namespace to migrate")
	}
	method, err := parseMethod(f.method)
	if err != nil {
		return nil, err
	}
	verify, err := parseVerify(f.verify)
	if err != nil {
		return nil, err
	}
	timeouts, err := parseTimeouts(f.timeouts)
	if err != nil {
		return nil, err
	}
	life := f.life()
	life.Verify = verify
	return &api.Migration{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: api.MigrationSpec{
			ClusterPair: f.pair, Namespaces: f.namespaces,
			IncludeResources: &f.includeResources, IncludeVolumes: &f.includeVolumes,
			StartApplications:   &f.startApplications,
			StorageClassMapping: f.classes, Method: method,
			LifeOptions: life, RuleOptions: f.rules, Timeouts: timeouts,
		},
	}, nil
}

// life leaves out what was not asked for.
func (f migrationFlags) life() api.LifeOptions {
	var o api.LifeOptions
	if f.stage {
		o.Stage = &f.stage
	}
	if f.quiesce {
		o.Quiesce = &f.quiesce
	}
	if f.precopy {
		o.Precopy = &api.Precopy{MaxDowntime: &metav1.Duration{Duration: f.maxDowntime}}
	}
	return o
}

func parseMethod(s string) (api.TransferMethod, error) {
	for _, m := range []api.TransferMethod{api.MethodAuto, api.MethodBlock, api.MethodFilesystem} {
		if strings.EqualFold(s, string(m)) {
			return m, nil
		}
	}
	return "", fmt.Errorf("--method %q is not known: say Auto, Block or Filesystem", s)
}

func parseVerify(s string) (api.VerifyMode, error) {
	for _, m := range []api.VerifyMode{api.VerifySealed, api.VerifyReadBack, api.VerifySample, api.VerifyFull} {
		if strings.EqualFold(s, string(m)) {
			return m, nil
		}
	}
	return "", fmt.Errorf("--verify %q is not known: say Sealed, ReadBack, Sample or Full", s)
}

// parseTimeouts is nil where none is given.
func parseTimeouts(given map[string]string) (*api.Timeouts, error) {
	if len(given) == 0 {
		return nil, nil //nolint:nilnil // none is no error
	}
	var t api.Timeouts
	fields := map[string]**metav1.Duration{
		"unreachable": &t.Unreachable, "quiesce": &t.Quiesce, "snapshots": &t.Snapshots, "exposure": &t.Exposure, "target": &t.Target, "start": &t.Start,
	}
	for name, text := range given {
		field, known := fields[name]
		if !known {
			return nil, fmt.Errorf("--timeouts %s=%s is not known: say %s", name, text, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Second {
			return nil, fmt.Errorf("--timeouts %s=%s: want a time of a second or more, such as 10m", name, text)
		}
		*field = &metav1.Duration{Duration: d}
	}
	return &t, nil
}

// pairThere tells a mistyped pair before anything is created.
func (s *session) pairThere(ctx context.Context, c client.Client, m *api.Migration) error {
	_, err := s.named(ctx, c, clusterPairKind(), m.Namespace, []string{m.Spec.ClusterPair})
	return err
}
