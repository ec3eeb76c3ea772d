package table

import (
	"fmt"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// Migration is the layout of Migrations.
func Migration() Layout {
	return Layout{
		Columns: columns(
			[]string{"Name", "ClusterPair", "Stage", "Status", "Volumes", "Resources", "Created", "Elapsed", "Total Bytes Transferred"},
			[]string{"Uploaded", "Written", "Retries", "Message"}),
		Cells: cells(func(m *api.Migration, now time.Time) []any {
			_, message := ready(m.Status.Conditions, api.ConditionReady)
			return []any{
				m.Name, m.Spec.ClusterPair, string(m.Status.Stage), string(m.Status.Status),
				volumes(m), resources(m), created(m), elapsed(m, now), strconv.FormatInt(bytes(m), 10),
				sum(m, func(v api.MigrationVolumeInfo) int64 { return v.BytesUploaded }), sum(m, func(v api.MigrationVolumeInfo) int64 { return v.BytesWritten }),
				retries(m), message,
			}
		}),
	}
}

// excluded tells that a switch which is on unless said otherwise is off.
func excluded(include *bool) bool { return include != nil && !*include }

func volumes(m *api.Migration) string {
	if excluded(m.Spec.IncludeVolumes) {
		return none
	}
	if s := m.Status.Summary; s != nil {
		return fmt.Sprintf("%d/%d", s.NumberOfMigratedVolumes, s.TotalNumberOfVolumes)
	}
	done := 0
	for _, v := range m.Status.Volumes {
		if v.Status == api.MigrationStatusSuccessful {
			done++
		}
	}
	return fmt.Sprintf("%d/%d", done, len(m.Status.Volumes))
}

func resources(m *api.Migration) string {
	if excluded(m.Spec.IncludeResources) {
		return none
	}
	if s := m.Status.Summary; s != nil {
		return fmt.Sprintf("%d/%d", s.NumberOfMigratedResources, s.TotalNumberOfResources)
	}
	done := 0
	for _, r := range m.Status.Resources {
		if r.Status == api.MigrationStatusSuccessful {
			done++
		}
	}
	return fmt.Sprintf("%d/%d", done, len(m.Status.Resources))
}

func bytes(m *api.Migration) int64 {
	if m.Status.Summary != nil {
		return m.Status.Summary.TotalBytesMigrated
	}
	var sum int64
	for _, v := range m.Status.Volumes {
		sum += v.BytesDone
	}
	return sum
}

// retries is how often anything was tried again, and what most of it was.
func retries(m *api.Migration) string {
	var sum int32
	var most api.Retry
	for _, r := range m.Status.Retries {
		sum += r.Count
		if r.Count > most.Count {
			most = r
		}
	}
	if sum == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%s)", sum, most.Stage)
}

// sum is of all volumes: what went into the object store, or onto the target's volumes.
func sum(m *api.Migration, of func(api.MigrationVolumeInfo) int64) string {
	var n int64
	for _, v := range m.Status.Volumes {
		n += of(v)
	}
	return quantity.Bytes(n)
}

// notTold is stork's word for a time that there is not.
const notTold = "NA"

// elapsed is how long the volumes and the objects took, or have taken so far.
func elapsed(m *api.Migration, now time.Time) string {
	var told api.MigrationSummary
	if m.Status.Summary != nil {
		told = *m.Status.Summary
	}
	vol, res := notTold, notTold
	start := m.CreationTimestamp
	if !excluded(m.Spec.IncludeVolumes) {
		vol = span(told.ElapsedTimeForVolumeMigration, &start, m.Status.VolumeMigrationFinishTimestamp, m.Status.FinishTimestamp, now)
		start = metav1.Time{}
		if m.Status.VolumeMigrationFinishTimestamp != nil {
			start = *m.Status.VolumeMigrationFinishTimestamp
		}
	}
	if !excluded(m.Spec.IncludeResources) {
		res = span(told.ElapsedTimeForResourceMigration, &start, m.Status.ResourceMigrationFinishTimestamp, m.Status.FinishTimestamp, now)
	}
	return fmt.Sprintf("Volumes (%s) Resources (%s)", vol, res)
}

// span is what the status tells or else the time from start to its end, to the
// end of the whole, or to now.
func span(told string, start, end, whole *metav1.Time, now time.Time) string {
	switch {
	case told != "":
		return told
	case start.IsZero():
		return notTold
	case !end.IsZero():
		now = end.Time
	case !whole.IsZero():
		now = whole.Time
	}
	return quantity.Duration(now.Sub(start.Time))
}
