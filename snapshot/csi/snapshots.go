package csi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// LabelOwner carries the owner's uid.
	LabelOwner = "godwit.io/owner"
	// LabelRole tells what an object is for, so that a release takes only what
	// this package made, whatever else carries the owner's label.
	LabelRole = "godwit.io/role"
	// LabelManagedBy is the customary label for who made an object.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// AnnotationOwner carries the owner's name, for people.
	AnnotationOwner = "godwit.io/owner-name"

	managedBy = "godwit"

	roleSnapshot = "snapshot"
	roleExposure = "exposure"
	roleHold     = "hold"

	// maxName is what both a label value and a pod's hostname can take.
	maxName = 63
)

// Mode says whether a node sees a device or a directory.
type Mode string

const (
	// Block is a device.
	Block Mode = "Block"
	// Filesystem is a mounted directory.
	Filesystem Mode = "Filesystem"
)

// Owner is the object that snapshots and exposures are made for.
type Owner struct {
	UID  types.UID
	Name string
}

// Config says where exposures live and what holders run.
type Config struct {
	// Namespace is Godwit's own; exposures of snapshots live there.
	Namespace string
	// HolderImage has a program that obeys "hold": it sleeps until it is ended.
	HolderImage           string
	HolderImagePullPolicy corev1.PullPolicy
	// HolderImagePullSecrets must exist in Namespace.
	HolderImagePullSecrets []corev1.LocalObjectReference
}

// Snapshots makes and releases snapshots, exposures and holds.
type Snapshots struct {
	client client.Client
	live   client.Reader
	cfg    Config
}

// New returns Snapshots. The client may read from a cache; live must not, since
// a release that overlooks what was made a moment ago would leave it for good.
// The client's scheme must know client-go's types and snapshot.storage.k8s.io/v1.
func New(c client.Client, live client.Reader, cfg Config) *Snapshots {
	return &Snapshots{client: c, live: live, cfg: cfg}
}

func labels(o Owner, role string) map[string]string {
	return map[string]string{LabelOwner: string(o.UID), LabelManagedBy: managedBy, LabelRole: role}
}

func objectMeta(o Owner, role, namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name,
		Labels:      labels(o, role),
		Annotations: map[string]string{AnnotationOwner: o.Name},
	}
}

func isOwned(obj client.Object, o Owner) bool {
	l := obj.GetLabels()
	return l[LabelManagedBy] == managedBy && l[LabelOwner] == string(o.UID)
}

// ownPrefix starts the names of all that is made in Godwit's namespace for the
// owner: by it a volume is known whose claim is gone already.
func ownPrefix(o Owner) string { return "godwit-" + digest(string(o.UID)) + "-" }

// ownName gives different names to different (owner, parts), the same name to
// the same, and a name that a person recognizes.
func ownName(o Owner, parts ...string) string {
	readable := strings.Map(func(r rune) rune {
		if r == '.' {
			return '-'
		}
		return r
	}, parts[len(parts)-1])
	end := "-" + digest(strings.Join(parts, "/"))
	room := maxName - len(ownPrefix(o)) - len(end)
	if len(readable) > room {
		readable = strings.TrimRight(readable[:room], "-")
	}
	return ownPrefix(o) + readable + end
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:5])
}

// ensure returns the object as it is in the cluster, and creates it where it is
// not there. It refuses an object of that name that was not made for the owner.
func ensure[T any, P interface {
	*T
	client.Object
}](ctx context.Context, s *Snapshots, o Owner, want P) (P, error) {
	key := client.ObjectKeyFromObject(want)
	found := P(new(T))
	err := s.client.Get(ctx, key, found)
	if apierrors.IsNotFound(err) {
		err = s.client.Create(ctx, want)
		if !apierrors.IsAlreadyExists(err) {
			return want, describe(err, "create", want, key)
		}
		// The cache has not seen it yet.
		err = s.live.Get(ctx, key, found)
	}
	if err != nil {
		return nil, describe(err, "read", want, key)
	}
	if !isOwned(found, o) {
		return nil, &FinalError{
			Problem: fmt.Sprintf("%s %s is there already and was not made for %s", kind(want), key, o.Name),
			Remedy:  "delete or rename it",
		}
	}
	return found, nil
}

// describe says what failed. Invalid objects stay invalid; all else may pass.
func describe(err error, verb string, obj client.Object, key client.ObjectKey) error {
	if err == nil {
		return nil
	}
	if apierrors.IsInvalid(err) {
		return &FinalError{
			Problem: fmt.Sprintf("%s %s %s: %v", verb, kind(obj), key, err),
			Remedy:  "the cluster refuses it as it is; see the message",
		}
	}
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("%s %s %s: check quota, pod security and Godwit's roles: %w", verb, kind(obj), key, err)
	}
	return fmt.Errorf("%s %s %s: %w", verb, kind(obj), key, err)
}
