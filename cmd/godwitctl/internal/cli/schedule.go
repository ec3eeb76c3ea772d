package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/table"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/schedule"
)

func migrationScheduleKind() kind {
	return kind{
		name: "MigrationSchedule", use: "migrationschedule", aliases: []string{"migrationschedules"},
		short:  "schedules that run one Migration after another",
		object: func() client.Object { return &api.MigrationSchedule{} },
		list:   func() client.ObjectList { return &api.MigrationScheduleList{} },
		layout: table.MigrationSchedule(),
	}
}

func schedulePolicyKind() kind {
	return kind{
		name: "SchedulePolicy", use: "schedulepolicy", aliases: []string{"schedulepolicies", "sp"},
		short:   "times at which scheduled runs are due",
		object:  func() client.Object { return &api.SchedulePolicy{} },
		list:    func() client.ObjectList { return &api.SchedulePolicyList{} },
		layout:  table.SchedulePolicy(),
		cluster: true,
	}
}

// policyFlags are the flags of create schedulepolicy, storkctl's.
type policyFlags struct {
	kind, clock, day, zone string
	minutes, retain, date  int
}

func newCreateSchedulePolicy(s *session) *cobra.Command {
	var f policyFlags
	cmd := &cobra.Command{
		Use: "schedulepolicy NAME", Aliases: []string{"schedulepolicies", "sp"}, Short: "Say when scheduled runs are due",
		Annotations: uses(usesOutput),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := exactlyOne("schedule policy", args)
			if err != nil {
				return err
			}
			item, err := f.item(cmd)
			if err != nil {
				return err
			}
			p := &api.SchedulePolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Policy: item}
			return s.create(cmd.Context(), p, "SchedulePolicy", "Schedule policy")
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.kind, "policy-type", "t", "Interval", "Interval, Daily, Weekly or Monthly")
	flags.IntVarP(&f.minutes, "interval-minutes", "i", 30, "Minutes from the start of one run to that of the next (Interval)")
	flags.IntVar(&f.retain, "retain", 0, "How many successful runs are kept; 0 for the kind's own number")
	flags.StringVar(&f.clock, "time", "12:00AM", "Time of day, such as 10:14PM (Daily, Weekly, Monthly)")
	flags.StringVar(&f.day, "day-of-week", "Sunday", "Day of the week (Weekly)")
	flags.IntVar(&f.date, "date-of-month", 1, "Date in the month; its last day where it is shorter (Monthly)")
	flags.StringVar(&f.zone, "time-zone", "", "Where the times of day are, such as Europe/Madrid; UTC when empty")
	return cmd
}

// item checks the flags as the controller would, so that a mistake is told here.
func (f policyFlags) item(cmd *cobra.Command) (api.SchedulePolicyItem, error) {
	item := api.SchedulePolicyItem{TimeZone: f.zone}
	kind, err := f.applies(cmd)
	if err != nil {
		return item, err
	}
	if err := f.check(); err != nil {
		return item, err
	}
	switch kind {
	case api.SchedulePolicyInterval:
		item.Interval = &api.IntervalPolicy{IntervalMinutes: f.minutes, Retain: f.retain}
	case api.SchedulePolicyDaily:
		item.Daily = &api.DailyPolicy{Time: f.clock, Retain: f.retain}
	case api.SchedulePolicyWeekly:
		item.Weekly = &api.WeeklyPolicy{Day: f.day, Time: f.clock, Retain: f.retain}
	case api.SchedulePolicyMonthly:
		item.Monthly = &api.MonthlyPolicy{Date: f.date, Time: f.clock, Retain: f.retain}
	}
	return item, nil
}

// applies gives the kind of policy, and refuses flags that are another kind's.
func (f policyFlags) applies(cmd *cobra.Command) (api.SchedulePolicyType, error) {
	kinds := map[api.SchedulePolicyType][]string{
		api.SchedulePolicyInterval: {"interval-minutes"}, api.SchedulePolicyDaily: {"time"},
		api.SchedulePolicyWeekly: {"time", "day-of-week"}, api.SchedulePolicyMonthly: {"time", "date-of-month"},
	}
	for kind, own := range kinds {
		if !strings.EqualFold(string(kind), f.kind) {
			continue
		}
		for _, flag := range []string{"interval-minutes", "time", "day-of-week", "date-of-month"} {
			if cmd.Flags().Changed(flag) && !slices.Contains(own, flag) {
				return "", fmt.Errorf("--%s does not apply to --policy-type %s: leave it out", flag, kind)
			}
		}
		return kind, nil
	}
	return "", fmt.Errorf("--policy-type %q is not known: say Interval, Daily, Weekly or Monthly", f.kind)
}

// check sees that each flag can be read, whether it is used or has its default.
func (f policyFlags) check() error {
	if _, err := time.LoadLocation(f.zone); err != nil {
		return fmt.Errorf("--time-zone %q is no time zone: write it as Europe/Madrid", f.zone)
	}
	if _, err := schedule.ParseClock(f.clock); err != nil {
		return fmt.Errorf("--time: %w", err)
	}
	if _, err := schedule.ParseWeekday(f.day); err != nil {
		return fmt.Errorf("--day-of-week: %w", err)
	}
	switch {
	case f.retain < 0:
		return fmt.Errorf("--retain is %d: the least is 0", f.retain)
	case f.minutes < 1:
		return fmt.Errorf("--interval-minutes is %d: the least is 1", f.minutes)
	case f.date < 1 || f.date > 31:
		return fmt.Errorf("--date-of-month is %d: it is a day from 1 to 31", f.date)
	}
	return nil
}

// create makes an object, or prints it as it was made.
func (s *session) create(ctx context.Context, obj client.Object, kind, title string) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	if err := c.Create(ctx, obj); err != nil {
		return s.fail("create "+kind+" "+obj.GetName(), err)
	}
	if !s.tabular() {
		return s.printObject(obj)
	}
	return s.out("%s %v created successfully", title, obj.GetName())
}

// scheduleFlags are the flags of create migrationschedule, storkctl's.
type scheduleFlags struct {
	pair, policy, method                     string
	namespaces                               []string
	excludeResources, excludeVolumes         bool
	startApplications, ignoreOwners          bool
	skipServiceUpdate, includeCIDR           bool
	failOnMissing, suspend, keepRunning      bool
	continuous                               bool
	interval, floor                          int
	keep                                     api.RecoveryPointRetention
	annotations, selectors, exclude, classes map[string]string
	excludeTypes                             []string
}

func newCreateMigrationSchedule(s *session) *cobra.Command {
	var f scheduleFlags
	cmd := &cobra.Command{
		Use: "migrationschedule NAME", Aliases: []string{"migrationschedules"},
		Short: "Move an application to another cluster again and again",
		Long: `Move an application to another cluster again and again. Run it on the source.

Example:
  ` + s.program + ` create migrationschedule cms-dr -n cms --namespaces cms -c prodcluster -s default-daily-policy`,
		Annotations: uses(usesOutput),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.createMigrationSchedule(cmd, f, args)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.pair, "cluster-pair", "c", "", "ClusterPair that leads to the target (required)")
	flags.StringSliceVar(&f.namespaces, "namespaces", nil, "Namespaces to move, separated by commas (required)")
	flags.StringVarP(&f.policy, "schedule-policy-name", "s", api.DefaultPolicyName, "Policy that says when")
	flags.IntVarP(&f.interval, "interval", "i", 30, "Minutes between runs: makes a SchedulePolicy of the schedule's name")
	flags.BoolVar(&f.continuous, "continuous", false, "Start each run when the last one has ended, instead of by a policy")
	flags.IntVar(&f.floor, "min-interval-seconds", 15, "Least time between the starts of continuous runs")
	addKeepFlags(flags, &f.keep)
	flags.BoolVar(&f.excludeResources, "exclude-resources", false, "Move the volumes only")
	flags.BoolVar(&f.excludeVolumes, "exclude-volumes", false, "Move the objects only")
	flags.BoolVarP(&f.startApplications, "start-applications", "a", false, "Start the applications on the target")
	flags.BoolVar(&f.ignoreOwners, "ignore-owner-references-check", false, "Also move objects whose owner moves")
	flags.BoolVar(&f.skipServiceUpdate, "skip-service-update", false, "Keep the cluster's own fields of Services")
	flags.BoolVar(&f.includeCIDR, "include-network-policy-with-cidr", false, "Also move NetworkPolicies with an ipBlock")
	flags.BoolVar(&f.failOnMissing, "disable-skip-deleted-namespaces", false, "Fail a run when one of the namespaces is gone")
	flags.BoolVar(&f.suspend, "suspend", false, "Make it suspended")
	flags.BoolVar(&f.keepRunning, "disable-auto-suspend", false, "Set autoSuspend: false, as in stork; a schedule whose application was activated on the target is suspended all the same")
	flags.StringToStringVar(&f.annotations, "annotations", nil, "Annotations for the schedule and its Migrations")
	flags.StringToStringVar(&f.selectors, "selectors", nil, "Move only objects that have all of these labels")
	flags.StringToStringVar(&f.exclude, "exclude-selectors", nil, "Leave out objects that have any of these labels")
	flags.StringSliceVar(&f.excludeTypes, "exclude-resource-types", nil, "Kinds to leave out")
	flags.StringToStringVar(&f.classes, "storage-class-mapping", nil, "Storage classes of the target for those of the source")
	flags.StringVar(&f.method, "method", string(api.MethodAuto), "How volumes are read: Auto, Block or Filesystem")
	return cmd
}

func (s *session) createMigrationSchedule(cmd *cobra.Command, f scheduleFlags, args []string) error {
	ctx := cmd.Context()
	own := cmd.Flags().Changed("interval")
	switch {
	case own && cmd.Flags().Changed("schedule-policy-name"):
		return errors.New("--interval and --schedule-policy-name exclude each other: leave one out")
	case f.continuous && (own || cmd.Flags().Changed("schedule-policy-name")):
		return errors.New("--continuous goes by no policy: leave out --interval and --schedule-policy-name")
	}
	m, err := f.schedule(args)
	if err != nil {
		return err
	}
	if m.Namespace, err = s.namespace(); err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	if err := s.pairThere(ctx, c, &api.Migration{ObjectMeta: m.ObjectMeta, Spec: m.Spec.Template.Spec}); err != nil {
		return err
	}
	if own {
		p := &api.SchedulePolicy{ObjectMeta: metav1.ObjectMeta{Name: m.Name}, Policy: api.SchedulePolicyItem{
			Interval: &api.IntervalPolicy{IntervalMinutes: f.interval},
		}}
		if f.interval < 1 {
			return fmt.Errorf("--interval is %d: the least is 1", f.interval)
		}
		if err := c.Create(ctx, p); err != nil {
			return s.fail("create SchedulePolicy "+p.Name, err)
		}
		m.Spec.SchedulePolicyName = p.Name
	}
	if err := s.create(ctx, m, "MigrationSchedule", "MigrationSchedule"); err != nil {
		return err
	}
	return errors.Join(s.hintNamespaces(ctx, c, f.namespaces), s.hintPolicy(ctx, c, m))
}

// schedule is what the flags ask for.
func (f scheduleFlags) schedule(args []string) (*api.MigrationSchedule, error) {
	name, err := exactlyOne("migration schedule", args)
	if err != nil {
		return nil, err
	}
	if f.pair == "" {
		return nil, errors.New("ClusterPair name needs to be provided for migration schedule")
	}
	if len(f.namespaces) == 0 {
		return nil, errors.New("need to provide atleast one namespace to migrate")
	}
	method, err := parseMethod(f.method)
	if err != nil {
		return nil, err
	}
	keep, err := keepRules(f.keep, f.continuous)
	if err != nil {
		return nil, err
	}
	resources, volumes, skip := !f.excludeResources, !f.excludeVolumes, !f.failOnMissing
	return &api.MigrationSchedule{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: f.annotations},
		Spec: api.MigrationScheduleSpec{
			SchedulePolicyName: f.policy, Suspend: &f.suspend, AutoSuspend: !f.keepRunning,
			Continuous: f.continuous, MinIntervalSeconds: f.floor, RecoveryPoints: keep,
			Template: api.MigrationTemplate{Spec: api.MigrationSpec{
				ClusterPair: f.pair, Namespaces: f.namespaces, IncludeResources: &resources, IncludeVolumes: &volumes,
				StartApplications: &f.startApplications, SkipServiceUpdate: &f.skipServiceUpdate,
				SkipDeletedNamespaces: &skip, StorageClassMapping: f.classes, Method: method,
				SelectionOptions: api.SelectionOptions{
					Selectors: f.selectors, ExcludeSelectors: f.exclude, ExcludeResourceTypes: f.excludeTypes,
					IncludeNetworkPolicyWithCIDR: &f.includeCIDR, IgnoreOwnerReferencesCheck: &f.ignoreOwners,
				},
			}},
		},
	}, nil
}

// newSuspend makes suspend or resume.
func newSuspend(s *session, verb, short string, suspend bool) *cobra.Command {
	parent := &cobra.Command{Use: verb, Short: short, Args: cobra.ArbitraryArgs, RunE: group("a kind", "migrationschedule")}
	pair := ""
	cmd := &cobra.Command{
		Use: "migrationschedule [NAME...]", Aliases: []string{"migrationschedules"}, Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.setSuspend(cmd.Context(), args, pair, verb, suspend)
		},
	}
	cmd.Flags().StringVarP(&pair, "clusterPair", "c", "", "All schedules over this ClusterPair")
	parent.AddCommand(cmd)
	return parent
}

func (s *session) setSuspend(ctx context.Context, args []string, pair, verb string, suspend bool) error {
	if (len(args) == 0) == (pair == "") {
		return fmt.Errorf("%s migrationschedule needs either names or --clusterPair", verb)
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	var objs []client.Object
	if pair == "" {
		objs, err = s.named(ctx, c, migrationScheduleKind(), namespace, args)
	} else {
		objs, err = s.listed(ctx, c, selection{kind: migrationScheduleKind(), pair: pair}, namespace)
	}
	if err != nil {
		return err
	}
	if len(objs) == 0 {
		return s.out("No resources found.")
	}
	var failed []error
	for _, obj := range objs {
		if m, ok := obj.(*api.MigrationSchedule); ok && m.IsCopy() {
			failed = append(failed, fmt.Errorf("MigrationSchedule %s is the copy of a schedule of another cluster: %s it there", m.Name, verb))
			continue
		}
		patch := fmt.Appendf(nil, `{"spec":{"suspend":%t}}`, suspend)
		if err := c.Patch(ctx, obj, client.RawPatch("application/merge-patch+json", patch)); err != nil {
			failed = append(failed, s.fail(verb+" MigrationSchedule "+obj.GetName(), err))
			continue
		}
		past := map[bool]string{true: "suspended", false: "resumed"}[suspend]
		failed = append(failed, s.out("MigrationSchedule %v %s successfully", obj.GetName(), past))
	}
	return errors.Join(failed...)
}

// policyUnused refuses to take away a policy that a schedule goes by.
func (s *session) policyUnused(ctx context.Context, c client.Client, name string) error {
	var list api.MigrationScheduleList
	if err := c.List(ctx, &list); err != nil {
		return s.fail("see who uses SchedulePolicy "+name, err)
	}
	for _, m := range list.Items {
		if m.Spec.SchedulePolicyName == name && !m.Spec.Continuous {
			return fmt.Errorf("SchedulePolicy %s is in use by MigrationSchedule %s/%s: give that one another policy first", name, m.Namespace, m.Name)
		}
	}
	return nil
}
