// Package progress owns how a running Migration, or one volume on its way, looks
// on a terminal and in a log.
//
// Its words: a picture is the lines that show one moment, made purely from the
// object and the time; a screen draws pictures over each other on a terminal; a
// journal writes one line for each change, at most every few seconds, where the
// output is no terminal. It never asks a cluster for anything.
package progress

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// Final reports whether nothing more will happen to the Migration.
func Final(m *api.Migration) bool {
	switch m.Status.Status {
	case api.MigrationStatusFailed, api.MigrationStatusSuccessful, api.MigrationStatusPartialSuccess, api.MigrationStatusPurged,
		api.MigrationStatusCancelled, api.MigrationStatusRolledBack:
		return true
	default:
		return m.Status.Stage == api.MigrationStageFinal
	}
}

// note is what the Migration says about itself: what it waits for, if it does,
// or else what it is at.
func note(m *api.Migration) string {
	if Final(m) {
		return ""
	}
	for _, c := range m.Status.Conditions {
		if c.Type != api.ConditionReady || c.Status == metav1.ConditionTrue || c.Message == "" {
			continue
		}
		if m.Status.Status == api.MigrationStatusPending {
			return "waiting: " + oneLine(c.Message) + standing(m)
		}
		return oneLine(c.Message) + standing(m)
	}
	return ""
}

// standing tells of a wait that is long enough to worry about when it ends.
func standing(m *api.Migration) string {
	w := m.Status.Waiting
	if w == nil || w.Stood.Duration < time.Minute {
		return ""
	}
	return fmt.Sprintf(" (no further for %s, limit %s)", quantity.Duration(w.Stood.Duration), quantity.Duration(w.Limit.Duration))
}

// elapsed is the time from the Migration's creation to its end, or to now.
func elapsed(m *api.Migration, now time.Time) time.Duration {
	if m.CreationTimestamp.IsZero() {
		return 0
	}
	if !m.Status.FinishTimestamp.IsZero() {
		now = m.Status.FinishTimestamp.Time
	}
	return now.Sub(m.CreationTimestamp.Time)
}
