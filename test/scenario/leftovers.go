package scenario

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// leaving is what a Migration makes for itself and has to take away again.
func leaving() [][]string {
	return [][]string{
		{"volumesnapshots.snapshot.storage.k8s.io", "-A"},
		{"volumesnapshotcontents.snapshot.storage.k8s.io"},
		{"volumetransfers.godwit.io", "-A"},
		{"standbies.godwit.io", "-A"},
		{"pods", "-n", Namespace, "-l", "app.kubernetes.io/part-of!=godwit"},
		{"persistentvolumeclaims", "-n", Namespace},
	}
}

// leftover is an object that a Migration made for itself, by the fields that
// say for which application.
type leftover struct {
	Kind              string `json:"kind"`
	metav1.ObjectMeta `json:"metadata"`

	Spec struct {
		// Of a VolumeTransfer.
		Volume struct {
			Namespace string `json:"namespace"`
		} `json:"volume"`
		// Of a Standby.
		Application string   `json:"application"`
		Namespaces  []string `json:"namespaces"`
		// Of a VolumeSnapshotContent.
		VolumeSnapshotRef corev1.ObjectReference `json:"volumeSnapshotRef"`
		// Of a PersistentVolume.
		ClaimRef corev1.ObjectReference `json:"claimRef"`
		// Of a Pod.
		Volumes []corev1.Volume `json:"volumes"`
	} `json:"spec"`
	Status struct {
		Phase string `json:"phase"`
	} `json:"status"`
}

func (l leftover) String() string {
	text := strings.Join(strings.Fields(strings.Join([]string{l.Kind, l.Namespace, l.Name, l.Status.Phase}, " ")), " ")
	if l.Spec.ClaimRef.Name != "" {
		text += " for " + l.Spec.ClaimRef.Namespace + "/" + l.Spec.ClaimRef.Name
	}
	return text
}

// namespaces are those of the applications that the object was made for; none
// where it does not say.
func (l leftover) namespaces(claims map[string]leftover) []string {
	told := append([]string{l.Namespace, l.Spec.Volume.Namespace, l.Spec.VolumeSnapshotRef.Namespace, l.Spec.ClaimRef.Namespace}, l.Spec.Namespaces...)
	for _, named := range []string{l.Spec.Application, l.Annotations["godwit.io/owner-name"], l.Annotations["godwit.io/claim"]} {
		if namespace, _, found := strings.Cut(named, "/"); found {
			told = append(told, namespace)
		}
	}
	told = append(told, l.Annotations["godwit.io/owner-namespace"])
	// Volumes and holders of Godwit's own claims are for whom these are.
	names := []string{}
	if l.Spec.ClaimRef.Namespace == Namespace {
		names = append(names, l.Spec.ClaimRef.Name)
	}
	for _, v := range l.Spec.Volumes {
		if v.PersistentVolumeClaim != nil {
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		}
	}
	for _, name := range names {
		if claim, there := claims[name]; there && l.Kind != "PersistentVolumeClaim" {
			told = append(told, claim.namespaces(nil)...)
		}
	}
	return slices.DeleteFunc(told, func(n string) bool { return n == "" || n == Namespace })
}

// Leftovers lists what Migrations made in the cluster for themselves and that is
// still there: snapshots, transfers, standbys, holder pods and temporary claims
// of any Migration, and volumes that only a temporary claim asked for.
func Leftovers(ctx context.Context, c Cluster) ([]string, error) {
	return leftovers(ctx, c, func([]string) bool { return true })
}

// leftovers lists those of which the namespaces are wanted.
func leftovers(ctx context.Context, c Cluster, wanted func(namespaces []string) bool) ([]string, error) {
	type list struct {
		Items []leftover `json:"items"`
	}
	var all []leftover
	claims := map[string]leftover{}
	for _, args := range leaving() {
		some, err := Get[list](ctx, c, args...)
		if err != nil {
			return nil, err
		}
		all = append(all, some.Items...)
		for _, l := range some.Items {
			if l.Kind == "PersistentVolumeClaim" {
				claims[l.Name] = l
			}
		}
	}
	volumes, err := Get[list](ctx, c, "persistentvolumes")
	if err != nil {
		return nil, err
	}
	for _, v := range volumes.Items {
		if v.Status.Phase != string(corev1.VolumeBound) || v.Spec.ClaimRef.Namespace == Namespace {
			all = append(all, v)
		}
	}
	var left []string
	for _, l := range all {
		if wanted(l.namespaces(claims)) {
			left = append(left, l.String())
		}
	}
	return left, nil
}

// AwaitNothingLeft waits until neither cluster holds leftovers of any Migration:
// for a story that has the clusters for itself. Kubernetes takes a moment to end
// pods and to delete volumes.
func (g *Ground) AwaitNothingLeft(ctx context.Context, patience time.Duration) error {
	return g.awaitNothing(ctx, patience, "nothing to be left", func([]string) bool { return true })
}

// AwaitNothingLeftOf waits until neither cluster holds leftovers for applications
// in namespaces that match the pattern, as path.Match has them, nor any of which
// nobody can say whose they are.
func (g *Ground) AwaitNothingLeftOf(ctx context.Context, namespaces string, patience time.Duration) error {
	if _, err := path.Match(namespaces, ""); err != nil {
		return fmt.Errorf("namespaces %q: %w", namespaces, err)
	}
	return g.awaitNothing(ctx, patience, "nothing to be left of "+namespaces, func(of []string) bool {
		return len(of) == 0 || slices.ContainsFunc(of, func(one string) bool {
			matched, err := path.Match(namespaces, one)
			return matched && err == nil
		})
	})
}

func (g *Ground) awaitNothing(ctx context.Context, patience time.Duration, what string, wanted func([]string) bool) error {
	for _, c := range []Cluster{g.Source, g.Target} {
		err := Await(ctx, patience, fmt.Sprintf("%s in cluster %s", what, c.Name), func(ctx context.Context) (bool, string, error) {
			left, err := leftovers(ctx, c, wanted)
			return len(left) == 0, strings.Join(left, "; "), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func lines(text string) []string {
	var all []string
	for l := range strings.Lines(text) {
		if l = strings.Join(strings.Fields(l), " "); l != "" {
			all = append(all, l)
		}
	}
	return all
}

// OutOfMemory tells which of Godwit's containers the kernel ended lately since they took
// more memory than they were given.
func (g *Ground) OutOfMemory(ctx context.Context) error {
	var all []error
	for _, c := range []Cluster{g.Source, g.Target} {
		pods, err := Get[corev1.PodList](ctx, c, "-n", Namespace, "pods")
		all = append(all, err)
		for _, pod := range pods.Items {
			for _, s := range pod.Status.ContainerStatuses {
				for _, t := range []*corev1.ContainerStateTerminated{s.State.Terminated, s.LastTerminationState.Terminated} {
					if t != nil && t.Reason == "OOMKilled" {
						all = append(all, fmt.Errorf("cluster %s: container %s of pod %s outgrew its memory limit at %s, and was restarted %d times", c.Name, s.Name, pod.Name, t.FinishedAt.UTC().Format(time.TimeOnly), s.RestartCount))
					}
				}
			}
		}
	}
	return errors.Join(all...)
}
