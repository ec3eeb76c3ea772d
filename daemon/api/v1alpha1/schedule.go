package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SchedulePolicyType names a section of a policy.
// +kubebuilder:validation:Enum=Interval;Daily;Weekly;Monthly
type SchedulePolicyType string

// The sections.
const (
	SchedulePolicyInterval SchedulePolicyType = "Interval"
	SchedulePolicyDaily    SchedulePolicyType = "Daily"
	SchedulePolicyWeekly   SchedulePolicyType = "Weekly"
	SchedulePolicyMonthly  SchedulePolicyType = "Monthly"
)

// SchedulePolicy says when scheduled runs are due, in every namespace that has
// no NamespacedSchedulePolicy of the same name.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=godwit
// +kubebuilder:printcolumn:name="Interval-Minutes",type=integer,JSONPath=`.policy.interval.intervalMinutes`
// +kubebuilder:printcolumn:name="Daily",type=string,JSONPath=`.policy.daily.time`
// +kubebuilder:printcolumn:name="Weekly",type=string,JSONPath=`.policy.weekly.day`
// +kubebuilder:printcolumn:name="Monthly",type=integer,JSONPath=`.policy.monthly.date`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SchedulePolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Policy SchedulePolicyItem `json:"policy"`
}

// NamespacedSchedulePolicy is a SchedulePolicy for one namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=godwit
// +kubebuilder:printcolumn:name="Interval-Minutes",type=integer,JSONPath=`.policy.interval.intervalMinutes`
// +kubebuilder:printcolumn:name="Daily",type=string,JSONPath=`.policy.daily.time`
// +kubebuilder:printcolumn:name="Weekly",type=string,JSONPath=`.policy.weekly.day`
// +kubebuilder:printcolumn:name="Monthly",type=integer,JSONPath=`.policy.monthly.date`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NamespacedSchedulePolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Policy SchedulePolicyItem `json:"policy"`
}

// SchedulePolicyItem is the body of a policy. At least one section is set; each
// that is set makes runs of its own.
type SchedulePolicyItem struct {
	// +optional
	Interval *IntervalPolicy `json:"interval,omitempty"`
	// +optional
	Daily *DailyPolicy `json:"daily,omitempty"`
	// +optional
	Weekly *WeeklyPolicy `json:"weekly,omitempty"`
	// +optional
	Monthly *MonthlyPolicy `json:"monthly,omitempty"`
	// TimeZone is where the times of day are, such as Europe/Madrid; UTC when empty.
	// +optional
	TimeZone string `json:"timeZone,omitempty"`
}

// IntervalPolicy makes a run every so many minutes, the first one at once.
type IntervalPolicy struct {
	// +kubebuilder:validation:Minimum=1
	IntervalMinutes int `json:"intervalMinutes"`
	// Retain is how many successful runs are kept.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=0
	Retain int `json:"retain,omitempty"`
	// Options are kept as they are: they are for storage drivers that read them.
	// +optional
	Options map[string]string `json:"options,omitempty"`
}

// DailyPolicy makes a run every day.
type DailyPolicy struct {
	// Time of day, such as 10:14PM or 22:14.
	Time string `json:"time"`
	// Retain is how many successful runs are kept.
	// +optional
	// +kubebuilder:default=30
	// +kubebuilder:validation:Minimum=0
	Retain int `json:"retain,omitempty"`
	// +optional
	Options map[string]string `json:"options,omitempty"`
	// ForceFullSnapshotDay has no meaning here: every recovery point is whole.
	// +optional
	ForceFullSnapshotDay string `json:"forceFullSnapshotDay,omitempty"`
}

// WeeklyPolicy makes a run every week.
type WeeklyPolicy struct {
	// Day of the week, such as Sunday or sun.
	Day string `json:"day"`
	// Time of day, such as 10:14PM or 22:14.
	Time string `json:"time"`
	// Retain is how many successful runs are kept.
	// +optional
	// +kubebuilder:default=7
	// +kubebuilder:validation:Minimum=0
	Retain int `json:"retain,omitempty"`
	// +optional
	Options map[string]string `json:"options,omitempty"`
}

// MonthlyPolicy makes a run every month, in a short month on its last day.
type MonthlyPolicy struct {
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=31
	Date int `json:"date"`
	// Time of day, such as 10:14PM or 22:14.
	Time string `json:"time"`
	// Retain is how many successful runs are kept.
	// +optional
	// +kubebuilder:default=12
	// +kubebuilder:validation:Minimum=0
	Retain int `json:"retain,omitempty"`
	// +optional
	Options map[string]string `json:"options,omitempty"`
}

// MigrationSchedule runs one Migration after another, by a policy.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=godwit
// +kubebuilder:printcolumn:name="PolicyName",type=string,JSONPath=`.spec.schedulePolicyName`
// +kubebuilder:printcolumn:name="ClusterPair",type=string,JSONPath=`.spec.template.spec.clusterPair`
// +kubebuilder:printcolumn:name="Suspend",type=boolean,JSONPath=`.spec.suspend`
// +kubebuilder:printcolumn:name="Last-Success",type=date,JSONPath=`.status.lastSuccess.finishTimestamp`
// +kubebuilder:printcolumn:name="Lag",type=date,JSONPath=`.status.lastSealed.taken`
// +kubebuilder:printcolumn:name="Next",type=string,JSONPath=`.status.nextRun`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type MigrationSchedule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   MigrationScheduleSpec   `json:"spec"`
	Status MigrationScheduleStatus `json:"status,omitempty"`
}

// MigrationScheduleSpec says what to run, and when.
type MigrationScheduleSpec struct {
	// Template is what each Migration is made from.
	Template MigrationTemplate `json:"template"`
	// SchedulePolicyName is a NamespacedSchedulePolicy of this namespace or, where
	// it has none of that name, a SchedulePolicy.
	// +optional
	// +kubebuilder:default=default-migration-policy
	SchedulePolicyName string `json:"schedulePolicyName,omitempty"`
	// Suspend makes no more runs; one that is under way goes on to its end.
	// +optional
	// +kubebuilder:default=false
	Suspend *bool `json:"suspend,omitempty"`
	// AutoSuspend is stork's. A schedule whose application was activated on another
	// cluster, by a failover or by "activate migration" there, is suspended in any
	// case: no round of it would be taken.
	// +optional
	AutoSuspend bool `json:"autoSuspend,omitempty"`
	// OnSuperseded says what becomes of the application here once it was activated on
	// another cluster: Keep leaves it running, ScaleDown stops its workloads.
	// +optional
	// +kubebuilder:default=Keep
	OnSuperseded SupersededPolicy `json:"onSuperseded,omitempty"`
	// Continuous starts each run as soon as the last one is sealed, instead of by the
	// policy's times. The target brings one round forward at a time: no third run is
	// started while two are under way.
	// +optional
	Continuous bool `json:"continuous,omitempty"`
	// MinIntervalSeconds is the least time from the start of one continuous run to
	// that of the next.
	// +optional
	// +kubebuilder:default=15
	// +kubebuilder:validation:Minimum=1
	MinIntervalSeconds int `json:"minIntervalSeconds,omitempty"`
	// RecoveryPoints says which recovery points stay in the repository, with their
	// images. Without it, all do. The newest one stays in any case, and so does what
	// the target holds or a later round starts from.
	// +optional
	RecoveryPoints *RecoveryPointRetention `json:"recoveryPoints,omitempty"`
}

// RecoveryPointRetention keeps a recovery point if any of its rules keeps it.
// +kubebuilder:validation:XValidation:rule="has(self.last) || has(self.withinHours) || has(self.hourly) || has(self.daily) || has(self.weekly) || has(self.monthly)",message="say at least one rule"
type RecoveryPointRetention struct {
	// Last keeps the newest this many.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Last int `json:"last,omitempty"`
	// WithinHours keeps all that are younger.
	// +optional
	// +kubebuilder:validation:Minimum=1
	WithinHours int `json:"withinHours,omitempty"`
	// Hourly keeps the newest of each of this many hours that have one; Daily,
	// Weekly (from Monday) and Monthly do so for days, weeks and months, in the
	// policy's time zone.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Hourly int `json:"hourly,omitempty"`
	// +optional
	// +kubebuilder:validation:Minimum=1
	Daily int `json:"daily,omitempty"`
	// +optional
	// +kubebuilder:validation:Minimum=1
	Weekly int `json:"weekly,omitempty"`
	// +optional
	// +kubebuilder:validation:Minimum=1
	Monthly int `json:"monthly,omitempty"`
}

// SupersededPolicy says what becomes of an application that was activated elsewhere.
// +kubebuilder:validation:Enum=Keep;ScaleDown
type SupersededPolicy string

// The policies.
const (
	SupersededKeep      SupersededPolicy = "Keep"
	SupersededScaleDown SupersededPolicy = "ScaleDown"
)

// MigrationTemplate is what a scheduled Migration is made from.
type MigrationTemplate struct {
	Spec MigrationSpec `json:"spec"`
}

// MigrationScheduleStatus tells what ran, and what will.
type MigrationScheduleStatus struct {
	// Items are the runs that are kept, the oldest first, by the section of the
	// policy that made them.
	// +optional
	Items map[string][]ScheduledMigration `json:"items,omitempty"`
	// ApplicationActivated says in the copy of a schedule on its target that the
	// application was started there by "activate migration": no round is taken until
	// it is stopped there by "deactivate migration".
	// +optional
	ApplicationActivated bool `json:"applicationActivated,omitempty"`
	// CountingSince is when the schedule was made or last resumed: what was due
	// before was not missed.
	// +optional
	CountingSince *metav1.Time `json:"countingSince,omitempty"`
	// LastDue is when the last run of each section was due.
	// +optional
	LastDue map[string]metav1.Time `json:"lastDue,omitempty"`
	// NextRun is when the next run is due.
	// +optional
	NextRun *metav1.Time `json:"nextRun,omitempty"`
	// LastSuccess is the last run that ended well.
	// +optional
	LastSuccess *ScheduledMigration `json:"lastSuccess,omitempty"`
	// LastSealed is the run whose recovery point is the newest: what could be failed
	// over to now, also while the target still brings it forward.
	// +optional
	LastSealed *SealedRun `json:"lastSealed,omitempty"`
	// MissedRuns counts runs that were due while an earlier one ran, or while
	// nobody looked, and were left out for a later one.
	// +optional
	MissedRuns int64 `json:"missedRuns,omitempty"`
	// FailuresInARow counts runs that failed since the last one that did not.
	// +optional
	FailuresInARow int64 `json:"failuresInARow,omitempty"`
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ScheduledMigration is one run of a schedule.
type ScheduledMigration struct {
	// Name is the Migration's.
	Name string `json:"name"`
	// CreationTimestamp is when the run was due.
	CreationTimestamp metav1.Time `json:"creationTimestamp"`
	// +optional
	FinishTimestamp *metav1.Time `json:"finishTimestamp,omitempty"`
	// +optional
	Status MigrationStatusType `json:"status,omitempty"`
}

// SealedRun is a run with a recovery point.
type SealedRun struct {
	// Name is the Migration's.
	Name string `json:"name"`
	// Taken is the moment that the recovery point holds, of its oldest snapshot.
	Taken metav1.Time `json:"taken"`
}

// DefaultPolicyName is the SchedulePolicy of schedules that name none.
const DefaultPolicyName = "default-migration-policy"

// The annotations of a Migration that a schedule made.
const (
	// AnnotationScheduleName is the MigrationSchedule's name.
	AnnotationScheduleName = "godwit.io/migration-schedule-name"
	// AnnotationPolicyType is the section of the policy that made the run, or
	// Continuous.
	AnnotationPolicyType = "godwit.io/schedule-policy-type"
	// AnnotationDue is when the run was due, in RFC 3339.
	AnnotationDue = "godwit.io/due"
)

const (
	// AnnotationStaticCopy marks the copy of a schedule on its target, as stork does:
	// it makes no runs, whatever its spec says.
	AnnotationStaticCopy = "stork.libopenstorage.org/static-copy"
	// AnnotationCopyPair is the pair that brought the copy.
	AnnotationCopyPair = "godwit.io/pair"
	// AnnotationCopyStandby is the Standby of the copy's application, in Godwit's own
	// namespace.
	AnnotationCopyStandby = "godwit.io/standby"
)

// IsCopy is true for the copy, on a target, of a schedule of its source.
func (s *MigrationSchedule) IsCopy() bool { return s.Annotations[AnnotationStaticCopy] == "true" }

// ReasonApplicationActivated is the Ready condition's reason on a Migration that
// the target refused, since the application was activated there.
const ReasonApplicationActivated = "ApplicationActivated"

// ReasonSuperseded is the Ready condition's reason on a Migration of a source that
// found in the repository that the application was activated on another cluster.
const ReasonSuperseded = "Superseded"

// SchedulePolicyList is a list of SchedulePolicy.
// +kubebuilder:object:root=true
type SchedulePolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SchedulePolicy `json:"items"`
}

// NamespacedSchedulePolicyList is a list of NamespacedSchedulePolicy.
// +kubebuilder:object:root=true
type NamespacedSchedulePolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NamespacedSchedulePolicy `json:"items"`
}

// MigrationScheduleList is a list of MigrationSchedule.
// +kubebuilder:object:root=true
type MigrationScheduleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MigrationSchedule `json:"items"`
}
