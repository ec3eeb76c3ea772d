package target

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/remote"
	"github.com/godwit-io/godwit/pairing"
)

// +kubebuilder:rbac:groups=storage.k8s.io,resources=csinodes,verbs=list
// +kubebuilder:rbac:groups="",resources=nodes,verbs=list

// annotationMoved is on a volume whose storage the source handed over, and names the
// round. It is never deleted with what Godwit made.
const annotationMoved = "godwit.io/moved"

func rawOf(packed []byte) *runtime.RawExtension {
	if len(packed) == 0 {
		return nil
	}
	return &runtime.RawExtension{Raw: packed}
}

// admitMoved holds volumes that are handed over against what their pair may bring. A
// PersistentVolume names storage by words of its maker alone, and those may be of any
// tenant's: an admin pair has to answer for it, as for all that has no namespace.
func (s *session) admitMoved(b migrate.Begin) error {
	for _, c := range b.Volumes {
		if len(c.Moved) == 0 {
			continue
		}
		if !s.peer.Scope.Admin && !b.AwaitVouch {
			return fmt.Errorf("claim %s/%s: action Move: %w: %s", c.Namespace, c.Name, pairing.ErrNamespace, movedByWhom)
		}
		if b.Stage || b.Activate || b.Schedule != nil {
			return fmt.Errorf("claim %s/%s: action Move: %w: a volume is handed over once, and no copy of it is kept", c.Namespace, c.Name, pairing.ErrRequest)
		}
		if _, err := remote.Unpack(c.Moved); err != nil {
			return fmt.Errorf("claim %s/%s: action Move: %w: %w", c.Namespace, c.Name, pairing.ErrRequest, err)
		}
	}
	return nil
}

const movedByWhom = "a PersistentVolume has no namespace, and may name any tenant's storage: only an admin pair brings one, the Migration's own or its spec.adminClusterPair" + adminRemedy

// digestOf tells the volumes that are handed over from any others, however they are
// written down.
func digestOf(packed map[string][]byte) (string, error) {
	volumes := map[string]corev1.PersistentVolumeSpec{}
	for claim, data := range packed {
		spec, err := remote.Unpack(data)
		if err != nil {
			return "", fmt.Errorf("claim %s: action Move: %w", claim, err)
		}
		volumes[claim] = spec
	}
	return remote.Digest(volumes)
}

func digestAsked(claims []migrate.Claim) (string, error) {
	packed := map[string][]byte{}
	for _, c := range claims {
		packed[c.Namespace+"/"+c.Name] = c.Moved
	}
	return digestOf(packed)
}

// digestHeld is of the volumes that a standby is to be handed.
func digestHeld(s *api.Standby) (string, error) {
	packed := map[string][]byte{}
	for _, c := range s.Spec.Volumes {
		if c.Moved != nil {
			packed[c.Namespace+"/"+c.Name] = c.Moved.Raw
		}
	}
	return digestOf(packed)
}

// mayMove says once more, where it counts, whether the pair of the round or the
// admin pair that vouched for these very volumes may bring them.
func (x *run) mayMove(ctx context.Context) error {
	if x.peer.Scope.Admin && x.peer.Left.IsZero() {
		return nil
	}
	if err := x.findVoucher(ctx, x.s.Spec.Round); err != nil {
		return err
	}
	if x.voucher == nil {
		return fmt.Errorf("%w: action Move: %s", errRefused, movedByWhom)
	}
	held, err := digestHeld(x.s)
	if err != nil || held != x.s.Spec.Vouched.Moved {
		return fmt.Errorf("%w: action Move: the admin pair did not vouch for these volumes", errRefused)
	}
	return nil
}

// nextMoved is a volume of the round that is handed over: there is no image of it.
func (x *run) nextMoved(c api.StandbyClaim, was *api.StandbyVolume) (api.StandbyVolume, error) {
	v := api.StandbyVolume{Namespace: c.Namespace, Name: c.Name, Moved: true}
	if x.s.Spec.Drill != nil || x.s.Spec.Stage || x.s.Spec.Activation != nil {
		return v, fmt.Errorf("%w: claim %s/%s is the source's own storage, of which there is no copy to try, keep or activate", errRefused, c.Namespace, c.Name)
	}
	if was != nil && !was.Moved {
		return v, fmt.Errorf("%w: claim %s/%s came as a copy and is handed over now: delete Standby %s, so that the copy goes, and try again",
			errRefused, c.Namespace, c.Name, x.s.Name)
	}
	return v, nil
}

// handOverMoved makes a PersistentVolume for the application's claim over the storage
// that the source retains. It retains it, too: either side may lose its objects.
func (x *run) handOverMoved(ctx context.Context, v *api.StandbyVolume) error {
	wanted, err := x.claimOf(v)
	if err != nil {
		return err
	}
	if wanted.Moved == nil {
		return fmt.Errorf("%w: the Standby no longer says where the storage of claim %s/%s is", errRefused, v.Namespace, v.Name)
	}
	spec, err := remote.Unpack(wanted.Moved.Raw)
	if err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	if err := x.mayMove(ctx); err != nil {
		return err
	}
	var all corev1.PersistentVolumeList
	if err := x.Live.List(ctx, &all); err != nil {
		return fmt.Errorf("list volumes: %w", err)
	}
	for i := range all.Items {
		pv := &all.Items[i]
		ref := pv.Spec.ClaimRef
		ours := pv.Labels[labelOwner] == string(x.s.UID) && pv.Annotations[annotationMoved] != "" && pv.DeletionTimestamp.IsZero()
		switch {
		case ours && ref != nil && ref.Namespace == into(v) && ref.Name == v.Name:
			v.Volume, v.HandedOver, v.Reason = pv.Name, true, ""
			return nil
		case remote.Same(pv.Spec, spec):
			return fmt.Errorf("%w: %s", errRefused, hasStorage(pv, spec))
		}
	}
	return x.makeMoved(ctx, v, wanted, spec)
}

func hasStorage(pv *corev1.PersistentVolume, spec corev1.PersistentVolumeSpec) string {
	whose := "no claim"
	if ref := pv.Spec.ClaimRef; ref != nil {
		whose = "claim " + ref.Namespace + "/" + ref.Name
	}
	return fmt.Sprintf("volume %s of the target, of %s, has the storage %s already: where nobody uses it there, set its reclaim policy to Retain and delete claim and volume, or use Copy",
		pv.Name, whose, remote.Name(spec))
}

func (x *run) makeMoved(ctx context.Context, v *api.StandbyVolume, wanted api.StandbyClaim, spec corev1.PersistentVolumeSpec) error {
	for _, name := range []string{wanted.SourceVolume, "godwit-" + x.nameFor(v)} {
		if name == "" {
			continue
		}
		pv := &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: x.labels(), Annotations: map[string]string{
				annotationStandby: x.s.Name, annotationMoved: x.s.Spec.Round,
			}},
			Spec: spec,
		}
		pv.Spec.PersistentVolumeReclaimPolicy, pv.Spec.StorageClassName = corev1.PersistentVolumeReclaimRetain, wanted.StorageClass
		pv.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: into(v), Name: v.Name}
		err := x.Client.Create(ctx, pv)
		if err == nil {
			v.Volume, v.Reason = name, "The storage of the source's volume is the application's here."
			return nil
		}
		if apierrors.IsInvalid(err) {
			return fmt.Errorf("%w: the cluster does not take volume %s: %w", errRefused, name, err)
		}
		if !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create volume %s: %w", name, err)
		}
	}
	return fmt.Errorf("%w: volumes named %s and godwit-%s exist and belong to others: delete one of them", errRefused, wanted.SourceVolume, x.nameFor(v))
}

// dropMoved deletes the PersistentVolumes over storage that is the source's again, and
// reports whether all are gone, so that no node has it. The storage stays.
func (x *run) dropMoved(ctx context.Context) (bool, error) {
	volumes, err := x.madeVolumes(ctx)
	if err != nil {
		return false, err
	}
	gone := true
	for i := range volumes {
		pv := &volumes[i]
		if pv.Annotations[annotationMoved] == "" {
			continue
		}
		gone = false
		if err := x.keepStorage(ctx, pv); err != nil {
			return false, err
		}
		if pv.Status.Phase == corev1.VolumeBound {
			continue // Its claim is being undone.
		}
		if err := x.Client.Delete(ctx, pv); client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("delete volume %s, whose storage is the source's: %w", pv.Name, err)
		}
	}
	return gone, nil
}

// keepStorage makes sure that a volume's storage outlives it, whoever changed that.
func (x *run) keepStorage(ctx context.Context, pv *corev1.PersistentVolume) error {
	if pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRetain {
		return nil
	}
	before := pv.DeepCopy()
	pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	if err := x.Client.Patch(ctx, pv, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("retain volume %s: %w", pv.Name, err)
	}
	return nil
}

// checkMoved looks for what would keep this cluster from the storage of a claim that
// is handed over. Who may not hand it over learns nothing of this cluster.
func (s *session) checkMoved(ctx context.Context, c migrate.Claim) ([]migrate.Problem, error) {
	problem := func(reason, format string, args ...any) []migrate.Problem {
		return []migrate.Problem{{Reason: reason, Message: fmt.Sprintf("claim %s/%s: action Move: ", c.Namespace, c.Name) + fmt.Sprintf(format, args...)}}
	}
	if !s.peer.Scope.Admin {
		return problem("MoveNotAllowed", "%s", movedByWhom), nil
	}
	spec, err := remote.Unpack(c.Moved)
	if err != nil {
		return nil, fmt.Errorf("claim %s/%s: action Move: %w: %w", c.Namespace, c.Name, pairing.ErrRequest, err)
	}
	var problems []migrate.Problem
	has, err := s.hasDriver(ctx, spec)
	if err != nil {
		return nil, err
	}
	if !has {
		problems = problem("DriverNotFound", "no node of the target has the CSI driver %s: install it there, or use Copy", spec.CSI.Driver)
	}
	missing, err := s.missingSecrets(ctx, spec)
	if err != nil {
		return nil, err
	}
	if missing != "" {
		problems = append(problems, problem("SecretNotFound",
			"its volume is reached by Secrets that the target does not have (%s), and Godwit does not carry them, since they open more than this volume: create them there by these names, or use Copy", missing)...)
	}
	near, err := s.hasNodeFor(ctx, spec)
	if err != nil {
		return nil, err
	}
	if !near {
		problems = append(problems, problem("VolumeOutOfReach", "no node of the target is where its node affinity says that the storage can be reached: label the nodes, or use Copy")...)
	}
	var all corev1.PersistentVolumeList
	if err := s.Live.List(ctx, &all); err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	for i := range all.Items {
		if remote.Same(all.Items[i].Spec, spec) {
			problems = append(problems, problem("VolumeExists", "%s", hasStorage(&all.Items[i], spec))...)
		}
	}
	return problems, nil
}

func (s *session) hasDriver(ctx context.Context, spec corev1.PersistentVolumeSpec) (bool, error) {
	if spec.CSI == nil {
		return true, nil // Kubelet has NFS built in.
	}
	var nodes storagev1.CSINodeList
	if err := s.Live.List(ctx, &nodes); err != nil {
		return false, fmt.Errorf("list the drivers of nodes: %w", err)
	}
	for _, node := range nodes.Items {
		for _, d := range node.Spec.Drivers {
			if d.Name == spec.CSI.Driver {
				return true, nil
			}
		}
	}
	return false, nil
}

func (s *session) missingSecrets(ctx context.Context, spec corev1.PersistentVolumeSpec) (string, error) {
	var missing []string
	for _, ref := range remote.Secrets(spec) {
		var secret metav1.PartialObjectMetadata
		secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
		err := s.Live.Get(ctx, types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}, &secret)
		if apierrors.IsNotFound(err) {
			missing = append(missing, ref.Namespace+"/"+ref.Name)
			continue
		}
		if err != nil {
			return "", fmt.Errorf("look for Secret %s/%s: %w", ref.Namespace, ref.Name, err)
		}
	}
	return strings.Join(missing, ", "), nil
}

func (s *session) hasNodeFor(ctx context.Context, spec corev1.PersistentVolumeSpec) (bool, error) {
	if spec.NodeAffinity == nil || spec.NodeAffinity.Required == nil {
		return true, nil
	}
	selector, err := nodeaffinity.NewNodeSelector(spec.NodeAffinity.Required)
	if err != nil {
		return false, fmt.Errorf("read the node affinity of a volume: %w: %w", pairing.ErrRequest, err)
	}
	var nodes corev1.NodeList
	if err := s.Live.List(ctx, &nodes); err != nil {
		return false, fmt.Errorf("list nodes: %w", err)
	}
	for i := range nodes.Items {
		if selector.Match(&nodes.Items[i]) {
			return true, nil
		}
	}
	return false, nil
}

// checkAllMoved looks at the volumes that are handed over.
func (s *session) checkAllMoved(ctx context.Context, claims []migrate.Claim) ([]migrate.Problem, error) {
	var problems []migrate.Problem
	for _, c := range claims {
		if len(c.Moved) == 0 {
			continue
		}
		found, err := s.checkMoved(ctx, c)
		if err != nil {
			return nil, err
		}
		problems = append(problems, found...)
	}
	return problems, nil
}
