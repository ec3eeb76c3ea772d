package csi

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// evictAfter is how long a holder stays on a node that does not answer.
const evictAfter int64 = 60

// place says where a holder may run.
type place struct {
	// node must be the one, by affinity and not by nodeName: the scheduler, which
	// also binds volumes, still has the word.
	node string
	// near are the source volume's own terms: a wish, since a snapshot may be
	// provisioned elsewhere too.
	near        []corev1.NodeSelectorTerm
	tolerations []corev1.Toleration
	waiting     string
}

// placeOfLive finds where a live volume can be mounted beside its users.
func (s *Snapshots) placeOfLive(ctx context.Context, pvc *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) (place, error) {
	modes := pv.Spec.AccessModes
	if slices.Contains(modes, corev1.ReadWriteMany) || slices.Contains(modes, corev1.ReadOnlyMany) {
		return s.placeAnywhere(ctx)
	}
	users, err := usersOf(ctx, s.client, pvc)
	if err != nil {
		return place{}, err
	}
	if slices.Contains(modes, corev1.ReadWriteOncePod) && len(users) > 0 {
		return place{}, &FinalError{
			Problem: fmt.Sprintf("claim %s/%s is ReadWriteOncePod and pod %s has it", pvc.Namespace, pvc.Name, users[0].Name),
			Remedy:  "scale its workload to zero, or give its driver a VolumeSnapshotClass",
		}
	}
	node, err := s.attachedTo(ctx, pv.Name)
	if err != nil {
		return place{}, err
	}
	for i := 0; node == "" && i < len(users); i++ {
		node = users[i].Spec.NodeName
	}
	if node != "" {
		// Where its user runs, a reader can run: drained and tainted nodes too.
		return place{node: node, tolerations: append(lostNode(), corev1.Toleration{Operator: corev1.TolerationOpExists})}, nil
	}
	if len(users) > 0 {
		return place{waiting: fmt.Sprintf("pod %s/%s to be scheduled, so that its volume can be read on the same node", pvc.Namespace, users[0].Name)}, nil
	}
	return s.placeAnywhere(ctx)
}

// placeNear prefers the nodes of the source volume: storage that is local to a
// node or a zone restores its snapshots there.
func (s *Snapshots) placeNear(ctx context.Context, pvc *corev1.PersistentVolumeClaim) (place, error) {
	p, err := s.placeAnywhere(ctx)
	if err != nil || pvc.Spec.VolumeName == "" {
		return p, err
	}
	var pv corev1.PersistentVolume
	err = s.client.Get(ctx, types.NamespacedName{Name: pvc.Spec.VolumeName}, &pv)
	if apierrors.IsNotFound(err) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read PersistentVolume %s: %w", pvc.Spec.VolumeName, err)
	}
	if a := pv.Spec.NodeAffinity; a != nil && a.Required != nil {
		p.near = a.Required.NodeSelectorTerms
	}
	return p, nil
}

// placeAnywhere tolerates the taints that people put on nodes to keep them for
// some pods, since volumes are there too. Taints by which Kubernetes, a cloud or
// an autoscaler says that a node is unfit are not tolerated.
func (s *Snapshots) placeAnywhere(ctx context.Context) (place, error) {
	var nodes corev1.NodeList
	if err := s.client.List(ctx, &nodes); err != nil {
		return place{}, fmt.Errorf("list Nodes: %w", err)
	}
	tolerations := lostNode()
	for _, node := range nodes.Items {
		for _, t := range node.Spec.Taints {
			toleration := corev1.Toleration{Key: t.Key, Operator: corev1.TolerationOpEqual, Value: t.Value, Effect: t.Effect}
			if !unfit(t.Key) && !slices.Contains(tolerations, toleration) {
				tolerations = append(tolerations, toleration)
			}
		}
	}
	return place{tolerations: tolerations}, nil
}

func unfit(taint string) bool {
	return taint == "ToBeDeletedByClusterAutoscaler" || taint == "DeletionCandidateOfClusterAutoscaler" ||
		slices.ContainsFunc([]string{
			"node.kubernetes.io/", "node.cloudprovider.kubernetes.io/", "node.cilium.io/",
			"virtual-kubelet.io/", "eks.amazonaws.com/compute-type", "karpenter.sh/",
		}, func(prefix string) bool { return strings.HasPrefix(taint, prefix) })
}

// lostNode lets a holder go from a dead node. These come first in the list: the
// first toleration that matches a taint sets the time.
func lostNode() []corev1.Toleration {
	seconds := evictAfter
	var all []corev1.Toleration
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		all = append(all, corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
		})
	}
	return all
}

// usersOf lists the pods, other than holders, that have the claim mounted or
// soon will; those on a node come first.
func usersOf(ctx context.Context, r client.Reader, pvc *corev1.PersistentVolumeClaim) ([]corev1.Pod, error) {
	var pods corev1.PodList
	if err := r.List(ctx, &pods, client.InNamespace(pvc.Namespace)); err != nil {
		return nil, fmt.Errorf("list Pods of namespace %s: %w", pvc.Namespace, err)
	}
	users := slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool {
		ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		return ended || isHolder(&p) || !uses(&p, pvc.Name)
	})
	slices.SortStableFunc(users, func(a, b corev1.Pod) int {
		return -compareBool(a.Spec.NodeName != "", b.Spec.NodeName != "")
	})
	return users, nil
}

func uses(pod *corev1.Pod, claim string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
		if v.Ephemeral != nil {
			return pod.Name+"-"+v.Name == claim
		}
		return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim
	})
}

// attachedTo names the node that a volume is attached to, empty for none.
func (s *Snapshots) attachedTo(ctx context.Context, pv string) (string, error) {
	attachments, err := attachments(ctx, s.client, pv)
	if err != nil {
		return "", err
	}
	for _, a := range attachments {
		if a.Status.Attached && a.DeletionTimestamp == nil {
			return a.Spec.NodeName, nil
		}
	}
	return "", nil
}

func attachments(ctx context.Context, r client.Reader, pv string) ([]storagev1.VolumeAttachment, error) {
	var list storagev1.VolumeAttachmentList
	if err := r.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list VolumeAttachments: %w", err)
	}
	return slices.DeleteFunc(list.Items, func(a storagev1.VolumeAttachment) bool {
		name := a.Spec.Source.PersistentVolumeName
		return name == nil || *name != pv
	}), nil
}
