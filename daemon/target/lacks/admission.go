package lacks

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"golang.org/x/sync/errgroup"

	"github.com/godwit-io/godwit/daemon/workload"
)

// trialsAtOnce bounds the dry runs under way.
const trialsAtOnce = 8

// admission lets the API server try one pod of each object by a dry run, in the
// namespace where it would run: its PodSecurity level, its LimitRanges and
// whatever webhooks look at pods have their say. Of a namespace that comes along
// only its labels for PodSecurity can be heard beforehand.
func (s *search) admission(ctx context.Context) error {
	refusals := make([]string, len(s.pods))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(trialsAtOnce)
	for i := range s.pods {
		group.Go(func() (err error) {
			refusals[i], err = s.try(ctx, &s.pods[i])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	levels, err := s.levels()
	if err != nil {
		return err
	}
	for i, refusal := range refusals {
		p := s.pods[i]
		if refusal == "" {
			refusal = levels.refusal(&p.pod)
		}
		if refusal != "" {
			s.lack(p.ref, PodsRefused, p.count > 0, "the target refuses its pods: %s: change the pods by spec.overrides, or what refuses them in namespace %s of the target", refusal, p.pod.Namespace)
		}
	}
	return nil
}

// try gives what the server says against the pod, and keeps the pod as it would
// stand there, with the defaults of the namespace.
func (s *search) try(ctx context.Context, p *podsOf) (string, error) {
	trial := p.pod.DeepCopy()
	trial.ObjectMeta = metav1.ObjectMeta{
		Namespace: p.pod.Namespace, GenerateName: "godwit-trial-", Labels: p.pod.Labels, Annotations: p.pod.Annotations,
	}
	// These may come with the round, and are looked for by themselves.
	trial.Spec.PriorityClassName, trial.Spec.Priority, trial.Spec.RuntimeClassName, trial.Spec.Overhead = "", nil, nil, nil
	trial.Spec.ServiceAccountName, trial.Spec.DeprecatedServiceAccount = "", ""
	err := s.Client.Create(ctx, trial, client.DryRunAll)
	switch {
	case err == nil:
		classes := p.pod.Spec
		p.pod.Spec = trial.Spec
		p.pod.Spec.PriorityClassName, p.pod.Spec.RuntimeClassName = classes.PriorityClassName, classes.RuntimeClassName
		p.pod.Spec.ServiceAccountName, p.pod.Spec.ImagePullSecrets = classes.ServiceAccountName, classes.ImagePullSecrets
	case apierrors.IsForbidden(err) && !s.aside(p.pod.Namespace, err):
		return oneLine(err), nil
	case workload.Retryable(err) && !apierrors.IsNotFound(err) && !apierrors.IsInternalError(err):
		return "", fmt.Errorf("try a pod of %s: %w", p.ref, err)
	}
	return "", nil
}

// aside tells of a refusal that says nothing about the pod: an account that the
// cluster has not made yet, a quota, which is summed up elsewhere, and limits that
// come with the round.
func (s *search) aside(namespace string, err error) bool {
	message := err.Error()
	if strings.Contains(message, "must specify") {
		for i := range s.coming.Objects {
			obj := &s.coming.Objects[i].Unstructured
			if obj.GetKind() == "LimitRange" && obj.GetNamespace() == namespace {
				return true
			}
		}
	}
	return slices.ContainsFunc([]string{"error looking up service account", "exceeded quota", "status unknown for quota"}, func(words string) bool {
		return strings.Contains(message, words)
	})
}

// oneLine drops the name that the trial had.
func oneLine(err error) string {
	message := strings.Join(strings.Fields(err.Error()), " ")
	if _, rest, found := strings.Cut(message, " is forbidden: "); found {
		return rest
	}
	return message
}
