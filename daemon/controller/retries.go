package controller

import (
	"cmp"
	"errors"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
)

// stageObserve is the stage of what fails before it is known what to do next.
const stageObserve = "Observe"

// failed notes what is tried again here.
func (x *run) failed(a migrate.Action, err error) {
	if apierrors.IsConflict(err) {
		return // The API server orders writes by them.
	}
	x.m.Status.Retried(api.Retry{Stage: cmp.Or(a.Reason, string(a.Kind)), Cluster: api.HookSource, Reason: err.Error(), Last: metav1.NewTime(x.Now())})
}

// wait says what is waited for. That a run has lost its pair is told afterwards too.
func (x *run) wait(reason, message string) {
	x.waiting(reason, message)
	if x.observed.Admitted && reason != migrate.ReasonTurn {
		x.failed(migrate.Action{Kind: migrate.Wait, Reason: reason}, errors.New(message))
	}
}

// followAttempts notes what a node of the source tried again.
func (x *run) followAttempts(v *api.MigrationVolumeInfo, t *api.VolumeTransfer) {
	s := t.Status
	if s.LastFailed == nil || s.Attempts < 2 {
		return
	}
	x.retried(api.Retry{
		Stage: string(t.Spec.Direction), Cluster: api.HookSource, Volume: v.Namespace + "/" + v.PersistentVolumeClaim,
		Count: s.Attempts - 1, Reason: s.LastFailure, Last: *s.LastFailed,
	})
}

// followTarget notes what the target says that it tried again.
func (x *run) followTarget(retries []migrate.TargetRetry) {
	for _, r := range retries {
		x.retried(api.Retry{
			Stage: r.Stage, Cluster: api.HookTarget, Volume: r.Volume, Count: r.Count, Reason: r.Reason,
			First: metav1.NewTime(r.First), Last: metav1.NewTime(r.Last),
		})
	}
}

// retried notes what others try again, and tells when that begins; of what fails here
// the condition Ready tells.
func (x *run) retried(r api.Retry) {
	if x.m.Status.Retried(r) {
		message := r.Stage + " on the " + string(r.Cluster) + " is tried again: "
		if r.Volume != "" {
			message = r.Stage + " of claim " + r.Volume + " on the " + string(r.Cluster) + " is tried again: "
		}
		message += r.Reason
		x.Events.Eventf(x.m, nil, corev1.EventTypeWarning, "Retrying", "Retry", "%s", message[:min(len(message), longestEvent)])
	}
}
