// Package hook runs the hooks of a round as Jobs on the cluster that it is on,
// once each, and takes them away afterwards.
//
// A hook's Job and the ConfigMap with its files have a name that the round gives
// them, so that whoever asks again finds them. It never decides when a hook runs,
// or who may run one: that is its callers' affair, on both clusters.
//
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;create;delete
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=list;create;delete
// +kubebuilder:rbac:groups="",resources=pods/log,verbs=get
package hook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/godwit-io/godwit/daemon/migrate"
)

// LabelRound is on all that was made for the hooks of one round.
const LabelRound = "godwit.io/hook-round"

const (
	labelManaged = "app.kubernetes.io/managed-by"
	managedBy    = "godwit"
	// annotationSkip keeps a hook out of the application that it works on.
	annotationSkip = "godwit.io/skip-resource"
	annotationHook = "godwit.io/hook"
	container      = "hook"
	// What is kept of a log.
	logLines, logBytes = 50, 4 << 10
)

// Logs reads the end of what a pod's container wrote.
type Logs interface {
	Tail(ctx context.Context, namespace, pod, container string) (string, error)
}

// Runner runs hooks.
type Runner struct {
	Client client.Client
	// Live reads past the cache.
	Live client.Reader
	Logs Logs
	// PlaybookImage runs hooks that name no image; there may be none.
	PlaybookImage string
}

// ErrUnusable says that a hook cannot be run as it is; its error says what to change.
var ErrUnusable = errors.New("the hook cannot be run")

// Job is what a hook becomes on this cluster, for pair.
func (r Runner) Job(pair string, h migrate.Hook) (*batchv1.Job, error) {
	image := h.Image
	if image == "" {
		image = r.PlaybookImage
	}
	if image == "" {
		return nil, fmt.Errorf("%w: hook %s names no image, and this cluster has none for playbooks: set spec.hooks[].image, or install Godwit with --set hooks.runnerImage=IMAGE", ErrUnusable, h.Name)
	}
	if u := h.User; u != nil && u.User != nil && *u.User < 1 {
		return nil, fmt.Errorf("%w: hook %s: a hook's pod does not run as root: give another spec.hooks[].securityContext.runAsUser", ErrUnusable, h.Name)
	}
	no, seconds := false, int64(h.Deadline.Seconds())
	meta := metav1.ObjectMeta{
		Namespace: h.Namespace, Name: name(pair, h),
		Labels:      map[string]string{labelManaged: managedBy, LabelRound: roundLabel(pair, h.RoundRef)},
		Annotations: map[string]string{annotationSkip: "true", annotationHook: h.Application + " " + h.Round + " " + h.Name},
	}
	c := corev1.Container{
		Name: container, Image: image, Command: h.Command, Args: h.Args,
		Env: []corev1.EnvVar{
			{Name: "GODWIT_APPLICATION", Value: h.Application}, {Name: "GODWIT_ROUND", Value: h.Round},
			{Name: "GODWIT_PHASE", Value: string(h.Phase)}, {Name: "GODWIT_HOOK", Value: h.Name}, {Name: "HOME", Value: "/tmp"},
		},
		SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
	}
	pod := corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, ServiceAccountName: h.ServiceAccount,
		SecurityContext: securityOf(h.User),
	}
	if len(h.Files) > 0 {
		c.VolumeMounts = []corev1.VolumeMount{{Name: "hook", MountPath: migrate.HookFolder, ReadOnly: true}}
		pod.Volumes = []corev1.Volume{{Name: "hook", VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: meta.Name}},
		}}}
	}
	pod.Containers = []corev1.Container{c}
	return &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: meta,
		Spec: batchv1.JobSpec{
			BackoffLimit: &h.BackoffLimit, ActiveDeadlineSeconds: &seconds,
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: maps.Clone(meta.Labels), Annotations: maps.Clone(meta.Annotations)}, Spec: pod,
			},
		},
	}, nil
}

// securityOf keeps a pod with a user of its own to what the level "restricted" asks
// for; without one it is the image's, which may be any.
func securityOf(u *migrate.HookUser) *corev1.PodSecurityContext {
	s := &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	if u == nil {
		return s
	}
	s.RunAsUser, s.RunAsGroup, s.FSGroup = u.User, u.Group, u.FSGroup
	if u.User != nil {
		yes := true
		s.RunAsNonRoot = &yes
	}
	return s
}

func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

func roundLabel(pair string, r migrate.RoundRef) string { return digest(pair, r.Application, r.Round) }

func name(pair string, h migrate.Hook) string {
	return "godwit-hook-" + digest(pair, h.Application, h.Round, h.Name)
}

// Ensure starts the hook's Job if it never was, and tells how it fares.
func (r Runner) Ensure(ctx context.Context, pair string, h migrate.Hook) (migrate.HookResult, error) {
	want, err := r.Job(pair, h)
	if err != nil {
		return migrate.HookResult{}, err
	}
	key := client.ObjectKeyFromObject(want)
	var job batchv1.Job
	err = r.Live.Get(ctx, key, &job)
	switch {
	case apierrors.IsNotFound(err) && h.Started:
		return migrate.HookResult{Job: key.Name, Done: true, Message: fmt.Sprintf("its Job %s was deleted while it ran", key)}, nil
	case apierrors.IsNotFound(err):
		return r.start(ctx, want, h)
	case err != nil:
		return migrate.HookResult{}, fmt.Errorf("read Job %s: %w", key, err)
	case job.Labels[LabelRound] != want.Labels[LabelRound]:
		return migrate.HookResult{}, fmt.Errorf("%w: Job %s is there already and was not made for it: delete that", ErrUnusable, key)
	}
	return r.look(ctx, &job)
}

// start makes the files first: a pod that finds none would wait for them.
func (r Runner) start(ctx context.Context, job *batchv1.Job, h migrate.Hook) (migrate.HookResult, error) {
	if len(h.Files) > 0 {
		config := &corev1.ConfigMap{ObjectMeta: *job.ObjectMeta.DeepCopy(), Data: h.Files}
		if err := r.Client.Create(ctx, config); err != nil && !apierrors.IsAlreadyExists(err) {
			return migrate.HookResult{}, refusal("ConfigMap", job, err)
		}
	}
	if err := r.Client.Create(ctx, job); err != nil && !apierrors.IsAlreadyExists(err) {
		return migrate.HookResult{}, refusal("Job", job, err)
	}
	return migrate.HookResult{Job: job.Name, Message: "its Job was created"}, nil
}

// refusal tells a no of the API server from what may be over soon.
func refusal(kind string, job *batchv1.Job, err error) error {
	key := client.ObjectKeyFromObject(job)
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
		return fmt.Errorf("%w: create %s %s: %w", ErrUnusable, kind, key, err)
	}
	return fmt.Errorf("create %s %s: %w", kind, key, err)
}

func (r Runner) look(ctx context.Context, job *batchv1.Job) (migrate.HookResult, error) {
	result := migrate.HookResult{Job: job.Name}
	for _, c := range job.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete:
			result.Done, result.OK = true, true
		case batchv1.JobFailed:
			result.Done, result.Message = true, fmt.Sprintf("%s: %s", c.Reason, c.Message)
		}
	}
	var pods corev1.PodList
	if err := r.Live.List(ctx, &pods, client.InNamespace(job.Namespace), client.MatchingLabels{batchv1.ControllerUidLabel: string(job.UID)}); err != nil {
		return result, fmt.Errorf("list the pods of Job %s/%s: %w", job.Namespace, job.Name, err)
	}
	if len(pods.Items) == 0 {
		if !result.Done {
			result.Message = "waiting for its first pod"
		}
		return result, nil
	}
	last := slices.MaxFunc(pods.Items, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	if !result.Done {
		result.Message = waitsFor(&last, job.Status.Failed)
	}
	if last.Status.Phase == corev1.PodPending || r.Logs == nil {
		return result, nil
	}
	log, err := r.Logs.Tail(ctx, last.Namespace, last.Name, container)
	if err != nil {
		logf.FromContext(ctx).Error(err, "read the log of a hook", "pod", client.ObjectKeyFromObject(&last))
		if result.Done {
			log = fmt.Sprintf("(its log could not be read: %v)", err)
		}
	}
	result.Log = log
	return result, nil
}

// waitsFor names what keeps a hook that has not ended.
func waitsFor(pod *corev1.Pod, failed int32) string {
	said := fmt.Sprintf("pod %s is %s", pod.Name, pod.Status.Phase)
	for _, c := range pod.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil {
			said += fmt.Sprintf(": %s: %s", w.Reason, w.Message)
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			said += fmt.Sprintf(": %s: %s", c.Reason, c.Message)
		}
	}
	if failed > 0 {
		said += fmt.Sprintf(", %d tries failed", failed)
	}
	return said
}

// Drop takes away what was made for the hooks of a round, running or not, and
// reports whether nothing is left.
func (r Runner) Drop(ctx context.Context, pair string, round migrate.RoundRef) (bool, error) {
	of := client.MatchingLabels{labelManaged: managedBy, LabelRound: roundLabel(pair, round)}
	var jobs batchv1.JobList
	var configs corev1.ConfigMapList
	var pods corev1.PodList
	left := 0
	for _, list := range []client.ObjectList{&jobs, &configs, &pods} {
		if err := r.Live.List(ctx, list, of); err != nil {
			return false, fmt.Errorf("list what was made for hooks: %w", err)
		}
	}
	var all []client.Object
	for i := range jobs.Items {
		all = append(all, &jobs.Items[i])
	}
	for i := range configs.Items {
		all = append(all, &configs.Items[i])
	}
	left = len(all) + len(pods.Items) // Pods go with their Job.
	for _, obj := range all {
		if !obj.GetDeletionTimestamp().IsZero() {
			continue
		}
		err := r.Client.Delete(ctx, obj, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("delete what was made for a hook: %s: %w", types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}, err)
		}
	}
	return left == 0, nil
}

// PodLogs reads logs through the API server.
type PodLogs struct{ client kubernetes.Interface }

// NewPodLogs returns the logs of the cluster that config leads to.
func NewPodLogs(config *rest.Config) (*PodLogs, error) {
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for reading logs: %w", err)
	}
	return &PodLogs{client: c}, nil
}

// Tail is Logs'.
func (l *PodLogs) Tail(ctx context.Context, namespace, pod, container string) (string, error) {
	lines := int64(logLines)
	// DoRaw would keep to itself what the server says of a refusal.
	stream, err := l.client.CoreV1().Pods(namespace).GetLogs(pod, &corev1.PodLogOptions{Container: container, TailLines: &lines}).Stream(ctx)
	if err != nil {
		return "", fmt.Errorf("read the log of pod %s/%s: %w", namespace, pod, err)
	}
	text, err := io.ReadAll(stream)
	if err = errors.Join(err, stream.Close()); err != nil {
		return "", fmt.Errorf("read the log of pod %s/%s: %w", namespace, pod, err)
	}
	if len(text) > logBytes {
		text = text[len(text)-logBytes:]
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(text)), "?"), nil
}
