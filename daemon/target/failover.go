package target

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
)

// +kubebuilder:rbac:groups=godwit.io,resources=actions,verbs=get;list;watch;create

// FailOver makes the Action that a user would make here, beside the schedule, and
// tells how it fares. Only the cluster that the schedule replicates to may ask.
func (s *session) FailOver(ctx context.Context, f migrate.FailOver) (migrate.FailOverReport, error) {
	if err := s.admit(f.Schedule, f.Namespaces, nil); err != nil {
		return migrate.FailOverReport{}, err
	}
	namespace, name, _ := strings.Cut(f.Schedule, "/")
	key := types.NamespacedName{Namespace: namespace, Name: requestName(api.ActionFailover, name, f.Request)}
	var a api.Action
	err := s.Live.Get(ctx, key, &a)
	if err == nil {
		return reportOf(&a), nil
	}
	if !apierrors.IsNotFound(err) {
		return migrate.FailOverReport{}, fmt.Errorf("read Action %s: %w", key, err)
	}
	if f.Started {
		return migrate.FailOverReport{Ended: true, Message: fmt.Sprintf("Action %s was deleted on cluster %s", key, s.ClusterID)}, nil
	}
	why, err := s.mayAsk(ctx, namespace, name)
	if err != nil || why != "" {
		return migrate.FailOverReport{Ended: true, Message: why}, err
	}
	return migrate.FailOverReport{}, s.makeAction(ctx, key, s.peer, api.ActionSpec{
		ActionType:      api.ActionFailover,
		ActionParameter: api.ActionParameter{FailoverParameter: &api.FailoverParameter{MigrationScheduleReference: name, FailoverNamespaces: f.Namespaces}},
	})
}

// makeAction makes an Action that a peer asks for; one that is there is left as it is.
func (a *Agent) makeAction(ctx context.Context, key types.NamespacedName, by pairing.Peer, spec api.ActionSpec) error {
	action := &api.Action{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Annotations: map[string]string{api.AnnotationAskedBy: by.ClusterID}},
		Spec:       spec,
	}
	if err := a.Client.Create(ctx, action); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create Action %s: %w", key, err)
	}
	return nil
}

// mayAsk says why the caller may not have the schedule's application moved.
func (s *session) mayAsk(ctx context.Context, namespace, name string) (string, error) {
	var schedule api.MigrationSchedule
	err := s.Live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &schedule)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Sprintf("MigrationSchedule %s/%s is not on cluster %s any more", namespace, name, s.ClusterID), nil
	case err != nil:
		return "", fmt.Errorf("read MigrationSchedule %s/%s: %w", namespace, name, err)
	case schedule.IsCopy():
		return fmt.Sprintf("MigrationSchedule %s/%s on cluster %s is a copy itself", namespace, name, s.ClusterID), nil
	}
	if err := s.policyOf(s.peer).CoverNamespace(schedule.Spec.Template.Spec.Namespaces...); err != nil {
		return "", err
	}
	peers, err := s.Peers.List(ctx, pairing.Outgoing)
	if err != nil {
		return "", fmt.Errorf("list pairs: %w", err)
	}
	for _, p := range peers {
		if p.Namespace == namespace && p.Name == schedule.Spec.Template.Spec.ClusterPair && p.ClusterID == s.peer.ClusterID {
			return "", nil
		}
	}
	return fmt.Sprintf("MigrationSchedule %s/%s does not replicate to cluster %s", namespace, name, s.peer.ClusterID), nil
}

// requestName is the same for the same wish, so that it is carried out once.
func requestName(what api.ActionType, application, request string) string {
	sum := sha256.Sum256([]byte(application + "/" + request))
	return fmt.Sprintf("%s-%s-%s", what, application, hex.EncodeToString(sum[:5]))
}

func reportOf(a *api.Action) migrate.FailOverReport {
	return migrate.FailOverReport{
		Stage: string(a.Status.Stage), Message: a.Status.Reason,
		Ended: a.Status.Stage == api.ActionStageFinal, Good: a.Status.Status == api.ActionStatusSuccessful,
	}
}
