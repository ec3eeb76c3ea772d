package csi

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	volumeName = "volume"
	// mountPath and devicePath are inside the holder, where nobody looks.
	mountPath  = "/volume"
	devicePath = "/dev/volume"

	nobody int64 = 65532
	grace  int64 = 2
)

// holder is a holder pod to be.
type holder struct {
	owner     Owner
	role      string
	namespace string
	name      string
	claim     string
	mode      Mode
	readOnly  bool
	place     place
}

func (h holder) source() *corev1.PersistentVolumeClaimVolumeSource {
	return &corev1.PersistentVolumeClaimVolumeSource{ClaimName: h.claim, ReadOnly: h.readOnly}
}

// held tells what a holder mounts; admission may have added other volumes.
func held(pod *corev1.Pod) corev1.PersistentVolumeClaimVolumeSource {
	for _, v := range pod.Spec.Volumes {
		if v.Name == volumeName && v.PersistentVolumeClaim != nil {
			return *v.PersistentVolumeClaim
		}
	}
	return corev1.PersistentVolumeClaimVolumeSource{}
}

// hold makes the holder, or tells how far it is.
func (s *Snapshots) hold(ctx context.Context, h holder) (Mounted, error) {
	pod, err := ensure(ctx, s, h.owner, s.pod(h))
	if err != nil {
		return Mounted{}, err
	}
	switch {
	case pod.DeletionTimestamp != nil:
		return Mounted{Waiting: fmt.Sprintf("an earlier pod %s/%s to be deleted", pod.Namespace, pod.Name)}, nil
	case held(pod) != *h.source():
		if err := s.remove(ctx, pod); err != nil {
			return Mounted{}, err
		}
		return Mounted{Waiting: fmt.Sprintf("pod %s/%s to be replaced, which holds the volume in another way", pod.Namespace, pod.Name)}, nil
	case pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded:
		// Evicted, or its node went away: another one is made next time.
		if err := s.remove(ctx, pod); err != nil {
			return Mounted{}, err
		}
		return Mounted{Waiting: fmt.Sprintf("pod %s/%s to be replaced, which ended: %s",
			pod.Namespace, pod.Name, cmp.Or(pod.Status.Message, pod.Status.Reason, string(pod.Status.Phase)))}, nil
	case pod.Status.Phase != corev1.PodRunning:
		waiting, err := s.waiting(ctx, pod)
		return Mounted{Waiting: waiting}, err
	}
	var pvc corev1.PersistentVolumeClaim
	key := types.NamespacedName{Namespace: h.namespace, Name: h.claim}
	if err := s.client.Get(ctx, key, &pvc); err != nil {
		return Mounted{}, fmt.Errorf("read PersistentVolumeClaim %s: %w", key, err)
	}
	if pvc.Spec.VolumeName == "" {
		return Mounted{Waiting: fmt.Sprintf("claim %s to be bound", key)}, nil
	}
	return Mounted{Ready: true, Node: pod.Spec.NodeName, PodUID: pod.UID, PersistentVolume: pvc.Spec.VolumeName, Mode: h.mode}, nil
}

func isHolder(pod *corev1.Pod) bool {
	role := pod.Labels[LabelRole]
	return pod.Labels[LabelManagedBy] == managedBy && (role == roleExposure || role == roleHold)
}

// pod describes the holder. It passes the strictest pod security, has no
// fsGroup (kubelet would change the owners of the application's files), and
// asks for next to nothing.
func (s *Snapshots) pod(h holder) *corev1.Pod {
	yes, no, uid, seconds := true, false, nobody, grace
	container := corev1.Container{
		Name: "hold", Image: s.cfg.HolderImage, ImagePullPolicy: s.cfg.HolderImagePullPolicy,
		Args: []string{"hold"},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		Resources: corev1.ResourceRequirements{
			Requests: resources("5m", "16Mi"), Limits: resources("100m", "64Mi"),
		},
	}
	if h.mode == Block {
		container.VolumeDevices = []corev1.VolumeDevice{{Name: volumeName, DevicePath: devicePath}}
	} else {
		container.VolumeMounts = []corev1.VolumeMount{{Name: volumeName, MountPath: mountPath, ReadOnly: h.readOnly}}
	}
	pod := &corev1.Pod{
		ObjectMeta: objectMeta(h.owner, h.role, h.namespace, h.name),
		Spec: corev1.PodSpec{
			Containers:                    []corev1.Container{container},
			RestartPolicy:                 corev1.RestartPolicyAlways,
			TerminationGracePeriodSeconds: &seconds,
			AutomountServiceAccountToken:  &no,
			EnableServiceLinks:            &no,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: &yes, RunAsUser: &uid, RunAsGroup: &uid,
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			NodeSelector: map[string]string{corev1.LabelOSStable: "linux"},
			Tolerations:  h.place.tolerations,
			Affinity:     affinity(h.place),
			Volumes: []corev1.Volume{{Name: volumeName, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: h.source(),
			}}},
		},
	}
	if h.namespace == s.cfg.Namespace {
		pod.Spec.ImagePullSecrets = s.cfg.HolderImagePullSecrets
	}
	// A mesh's proxy or a backup tool would wait for traffic, or read the volume.
	pod.Annotations["sidecar.istio.io/inject"] = "false"
	pod.Annotations["linkerd.io/inject"] = "disabled"
	return pod
}

func resources(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

func affinity(p place) *corev1.Affinity {
	node := &corev1.NodeAffinity{}
	if p.node != "" {
		node.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{p.node}}},
		}}}
	}
	for _, term := range p.near {
		node.PreferredDuringSchedulingIgnoredDuringExecution = append(node.PreferredDuringSchedulingIgnoredDuringExecution,
			corev1.PreferredSchedulingTerm{Weight: 100, Preference: term})
	}
	if p.node == "" && len(p.near) == 0 {
		return nil
	}
	return &corev1.Affinity{NodeAffinity: node}
}

// waiting says what keeps a pod from running: the latest warning about the
// claim or the pod, or what the scheduler or the container says.
func (s *Snapshots) waiting(ctx context.Context, pod *corev1.Pod) (string, error) {
	what := fmt.Sprintf("pod %s/%s to run", pod.Namespace, pod.Name)
	if pod.UID == "" {
		return what, nil
	}
	var about client.Object = pod
	problem := containerProblem(pod)
	if pod.Spec.NodeName == "" {
		// Its events are older than the condition, or say the same.
		about, problem = nil, schedulingProblem(pod)
		var pvc corev1.PersistentVolumeClaim
		key := types.NamespacedName{Namespace: pod.Namespace, Name: held(pod).ClaimName}
		if err := s.client.Get(ctx, key, &pvc); client.IgnoreNotFound(err) != nil {
			return "", fmt.Errorf("read PersistentVolumeClaim %s: %w", key, err)
		}
		if pvc.UID != "" && pvc.Spec.VolumeName == "" {
			about = &pvc
		}
	}
	if about == nil {
		return waitingFor(what, problem), nil
	}
	event, err := s.warning(ctx, about)
	if err != nil {
		return "", err
	}
	if event != nil && event.Reason != "FailedScheduling" {
		problem = fmt.Sprintf("%s: %s", event.Reason, event.Message)
	}
	return waitingFor(what, problem), nil
}

func schedulingProblem(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Message
		}
	}
	return ""
}

func containerProblem(pod *corev1.Pod) string {
	for _, c := range pod.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil && w.Reason != "ContainerCreating" {
			return cmp.Or(w.Message, w.Reason)
		}
	}
	return ""
}

// warning returns the latest Warning about the object, nil for none. Events are
// read from the API server: a cache of all of them would be large.
func (s *Snapshots) warning(ctx context.Context, obj client.Object) (*corev1.Event, error) {
	var events corev1.EventList
	err := s.live.List(ctx, &events, client.InNamespace(obj.GetNamespace()),
		client.MatchingFields{"involvedObject.uid": string(obj.GetUID())})
	if err != nil {
		return nil, fmt.Errorf("list Events of %s %s/%s: %w", kind(obj), obj.GetNamespace(), obj.GetName(), err)
	}
	warnings := slices.DeleteFunc(events.Items, func(e corev1.Event) bool { return e.Type != corev1.EventTypeWarning })
	if len(warnings) == 0 {
		return nil, nil
	}
	latest := slices.MaxFunc(warnings, func(a, b corev1.Event) int { return moment(&a).Compare(moment(&b)) })
	return &latest, nil
}
