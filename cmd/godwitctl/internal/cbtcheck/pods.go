package cbtcheck

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/snapshot/cbt"
)

const (
	devicePath = "/dev/scratch"
	tokenDir   = "/var/run/secrets/godwit-cbt-check" //nolint:gosec // a folder, and no secret
)

// Write has a pod write to the scratch volume.
func (b *Bench) Write(ctx context.Context, writes []cbt.Write) error {
	text, err := json.Marshal(writes)
	if err != nil {
		return fmt.Errorf("encode the writes: %w", err)
	}
	b.options.Told("%d writes before snapshot %d", len(writes), len(b.handles))
	pod := b.pod("write", "--device="+devicePath, "--writes="+string(text))
	pod.Spec.Volumes = []corev1.Volume{{Name: claim, VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
	}}}
	pod.Spec.Containers[0].VolumeDevices = []corev1.VolumeDevice{{Name: claim, DevicePath: devicePath}}
	_, err = b.run(ctx, pod)
	return err
}

// Ask has a pod ask the driver's sidecar.
func (b *Bench) Ask(ctx context.Context, questions []cbt.Question) ([]cbt.Answer, error) {
	text, err := json.Marshal(questions)
	if err != nil {
		return nil, fmt.Errorf("encode the questions: %w", err)
	}
	b.options.Told("%d questions to %s", len(questions), b.service.Spec.Address)
	args := []string{
		"--questions=" + string(text), "--namespace=" + b.namespace, "--address=" + b.service.Spec.Address,
		"--ca=" + base64.StdEncoding.EncodeToString(b.service.Spec.CACert), "--token-file=" + tokenDir + "/token",
	}
	for i, handle := range b.handles {
		args = append(args, "--snapshot="+snapshotName(i), "--handle="+handle)
	}
	pod := b.pod("ask", args...)
	seconds := int64(600)
	pod.Spec.Volumes = []corev1.Volume{{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
			Audience: b.service.Spec.Audience, ExpirationSeconds: &seconds, Path: "token",
		}}},
	}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "token", MountPath: tokenDir, ReadOnly: true}}
	out, err := b.run(ctx, pod)
	if err != nil {
		return nil, err
	}
	var answers []cbt.Answer
	if err := json.Unmarshal(out, &answers); err != nil {
		return nil, fmt.Errorf("read what the pod said: %w: %.200s", err, out)
	}
	return answers, nil
}

// pod describes a pod that runs a part of godwitd's cbt-check.
func (b *Bench) pod(part string, args ...string) *corev1.Pod {
	b.pods++
	root, no, yes, grace := int64(0), false, true, int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: fmt.Sprintf("%s-%d", part, b.pods)},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, ServiceAccountName: account, AutomountServiceAccountToken: &no,
			TerminationGracePeriodSeconds: &grace, EnableServiceLinks: &no,
			NodeSelector:    map[string]string{corev1.LabelOSStable: "linux"},
			SecurityContext: &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{
				Name: part, Image: b.options.Image, Args: append([]string{"cbt-check", part}, args...),
				TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
				SecurityContext: &corev1.SecurityContext{
					RunAsUser: &root, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
				}},
			}},
		},
	}
}

// run runs a pod to its end and returns what it printed.
func (b *Bench) run(ctx context.Context, pod *corev1.Pod) ([]byte, error) {
	if err := b.client.Create(ctx, pod); err != nil {
		return nil, fmt.Errorf("create pod %s: %w", pod.Name, err)
	}
	key := client.ObjectKeyFromObject(pod)
	err := b.until(ctx, "wait for pod "+key.String(), func(ctx context.Context) (bool, string, error) {
		if err := b.get(ctx, "pod", key, pod); err != nil {
			return false, "", err
		}
		if pod.Status.Phase == corev1.PodFailed {
			return false, "", fmt.Errorf("it failed: %s", ended(pod))
		}
		return pod.Status.Phase == corev1.PodSucceeded, waitingFor(pod), nil
	})
	if err != nil {
		return nil, err
	}
	out, err := b.logs.CoreV1().Pods(key.Namespace).GetLogs(key.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the log of pod %s: %w", key, err)
	}
	// Its volume is free for the next pod, on whatever node that runs.
	if err := b.client.Delete(ctx, pod); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("delete pod %s: %w", key, err)
	}
	return out, nil
}

func ended(pod *corev1.Pod) string {
	for _, c := range pod.Status.ContainerStatuses {
		if t := c.State.Terminated; t != nil {
			return strings.TrimSpace(t.Reason + ": " + t.Message)
		}
	}
	return pod.Status.Reason + ": " + pod.Status.Message
}

func waitingFor(pod *corev1.Pod) string {
	for _, c := range pod.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil {
			return strings.TrimSpace(w.Reason + ": " + w.Message)
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Message
		}
	}
	return string(pod.Status.Phase)
}

// Close removes all that the check made, in the cluster and in the storage, and
// waits until it is gone.
func (b *Bench) Close(ctx context.Context) error {
	if b == nil || b.namespace == "" {
		return nil
	}
	// Snapshots go before their volume, for storages that want it so.
	if err := b.client.DeleteAllOf(ctx, &snapshotv1.VolumeSnapshot{}, client.InNamespace(b.namespace)); err != nil {
		return fmt.Errorf("delete the snapshots of the check in namespace %s: %w", b.namespace, err)
	}
	if err := b.freeVolume(ctx); err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.namespace}}
	if err := b.client.Delete(ctx, namespace); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete namespace %s: %w", b.namespace, err)
	}
	return b.until(ctx, "wait for namespace "+b.namespace+" to go", func(ctx context.Context) (bool, string, error) {
		err := b.client.Get(ctx, types.NamespacedName{Name: b.namespace}, namespace)
		if client.IgnoreNotFound(err) != nil {
			return false, "", err
		}
		return err != nil, fmt.Sprint(namespace.Status.Conditions), nil
	})
}

// freeVolume lets the volume go with its claim, whatever its class says.
func (b *Bench) freeVolume(ctx context.Context) error {
	var pvc corev1.PersistentVolumeClaim
	err := b.client.Get(ctx, types.NamespacedName{Namespace: b.namespace, Name: claim}, &pvc)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read claim %s/%s: %w", b.namespace, claim, err)
	}
	if err != nil || pvc.Spec.VolumeName == "" {
		return nil
	}
	var pv corev1.PersistentVolume
	err = b.client.Get(ctx, types.NamespacedName{Name: pvc.Spec.VolumeName}, &pv)
	if err != nil || pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
		return client.IgnoreNotFound(err)
	}
	patch := client.MergeFrom(pv.DeepCopy())
	pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
	if err := b.client.Patch(ctx, &pv, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("let volume %s be deleted: %w", pv.Name, err)
	}
	return nil
}

var _ cbt.Bench = (*Bench)(nil)
