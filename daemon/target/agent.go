package target

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
)

// For is the agent as one peer may use it: only for namespaces of its pair.
func (a *Agent) For(p pairing.Peer) migrate.Target { return &session{Agent: a, peer: p} }

type session struct {
	*Agent
	peer pairing.Peer
}

var _ migrate.Target = (*session)(nil)

// Preflight looks for what would fail: classes that are not there, and claims
// that are there already.
func (s *session) Preflight(ctx context.Context, p migrate.Preflight) ([]migrate.Problem, error) {
	if err := s.admit(p.Application, p.Namespaces, p.Volumes); err != nil {
		return nil, err
	}
	var problems []migrate.Problem
	for _, c := range p.Volumes {
		for _, check := range []func(context.Context, migrate.Claim) (*migrate.Problem, error){s.checkClass, s.checkClaim} {
			problem, err := check(ctx, c)
			if err != nil {
				return nil, err
			}
			if problem != nil {
				problems = append(problems, *problem)
			}
		}
	}
	return problems, nil
}

func (s *session) admit(application string, namespaces []string, volumes []migrate.Claim) error {
	owner, _, found := strings.Cut(application, "/")
	if !found {
		return fmt.Errorf("application %q: %w: want namespace/name", application, pairing.ErrRequest)
	}
	if err := s.peer.Scope.Covers(append([]string{owner}, namespaces...)...); err != nil {
		return err
	}
	for _, v := range volumes {
		if err := s.peer.Scope.Covers(v.Namespace); err != nil {
			return err
		}
	}
	return nil
}

const annotationDefaultClass = "storageclass.kubernetes.io/is-default-class"

func (s *session) checkClass(ctx context.Context, c migrate.Claim) (*migrate.Problem, error) {
	var classes storagev1.StorageClassList
	if err := s.Client.List(ctx, &classes); err != nil {
		return nil, fmt.Errorf("list storage classes: %w", err)
	}
	names := make([]string, 0, len(classes.Items))
	for _, class := range classes.Items {
		if class.Name == c.StorageClass || c.StorageClass == "" && class.Annotations[annotationDefaultClass] == "true" {
			return nil, nil //nolint:nilnil // no problem, no error
		}
		names = append(names, class.Name)
	}
	wanted := "storage class " + c.StorageClass
	if c.StorageClass == "" {
		wanted = "a default storage class"
	}
	return &migrate.Problem{Reason: "StorageClassNotFound", Message: fmt.Sprintf(
		"claim %s/%s wants %s, which the target does not have (it has: %s): create it there, or map it with spec.storageClassMapping",
		c.Namespace, c.Name, wanted, strings.Join(names, ", "))}, nil
}

func (s *session) checkClaim(ctx context.Context, c migrate.Claim) (*migrate.Problem, error) {
	var pvc corev1.PersistentVolumeClaim
	err := s.Live.Get(ctx, types.NamespacedName{Namespace: c.Namespace, Name: c.Name}, &pvc)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // no problem, no error
	}
	if err != nil {
		return nil, fmt.Errorf("read claim %s/%s: %w", c.Namespace, c.Name, err)
	}
	return &migrate.Problem{Reason: "ClaimExists", Message: fmt.Sprintf(
		"claim %s/%s exists on the target already, and its data would be lost: delete it there, or leave it out", c.Namespace, c.Name)}, nil
}

// Begin writes the Standby. A round that the Standby reached already stays as it is.
func (s *session) Begin(ctx context.Context, b migrate.Begin) error {
	if err := s.admit(b.Application, b.Namespaces, b.Volumes); err != nil {
		return err
	}
	standby := &api.Standby{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: standbyName(s.peer.PairID, b.Application),
			Labels: map[string]string{labelManaged: managedBy, labelPair: s.peer.PairID},
		},
		Spec: api.StandbySpec{
			PairID: s.peer.PairID, Application: b.Application, Round: b.Round, Namespaces: b.Namespaces,
			StartApplications: b.StartApplications, IncludeResources: b.IncludeResources,
		},
	}
	for _, c := range b.Volumes {
		standby.Spec.Volumes = append(standby.Spec.Volumes, api.StandbyClaim{
			Namespace: c.Namespace, Name: c.Name, StorageClass: c.StorageClass, VolumeMode: c.VolumeMode,
			AccessModes: c.AccessModes, SizeBytes: c.SizeBytes, SourceVolume: c.Volume,
		})
	}
	err := s.Client.Create(ctx, standby)
	if !apierrors.IsAlreadyExists(err) {
		if err != nil {
			return fmt.Errorf("create Standby %s: %w", standby.Name, err)
		}
		return nil
	}
	var there api.Standby
	if err := s.Live.Get(ctx, client.ObjectKeyFromObject(standby), &there); err != nil {
		return fmt.Errorf("read Standby %s: %w", standby.Name, err)
	}
	if there.Spec.Round != b.Round {
		return fmt.Errorf("standby %s holds round %s of %s: delete the Migration that made it before another of the same name",
			standby.Name, there.Spec.Round, b.Application)
	}
	return nil
}

// standbyName is readable, and unique per pair and application.
func standbyName(pairID, application string) string {
	sum := sha256.Sum256([]byte(pairID + "/" + application))
	name := strings.ReplaceAll(application, "/", "-")
	if len(name) > 40 {
		name = name[:40]
	}
	return strings.Trim(name, "-.") + "-" + hex.EncodeToString(sum[:4])
}

func (s *session) find(ctx context.Context, r migrate.RoundRef) (*api.Standby, error) {
	if err := s.admit(r.Application, r.Namespaces, nil); err != nil {
		return nil, err
	}
	var standby api.Standby
	err := s.Live.Get(ctx, types.NamespacedName{Namespace: s.Namespace, Name: standbyName(s.peer.PairID, r.Application)}, &standby)
	if apierrors.IsNotFound(err) || err == nil && (standby.Spec.Round != r.Round || standby.Spec.PairID != s.peer.PairID) {
		return nil, fmt.Errorf("round %s of %s: %w", r.Round, r.Application, migrate.ErrUnknownRound)
	}
	if err != nil {
		return nil, fmt.Errorf("read the Standby of %s: %w", r.Application, err)
	}
	return &standby, nil
}

// Status tells how far the Standby is.
func (s *session) Status(ctx context.Context, r migrate.RoundRef) (migrate.TargetStatus, error) {
	standby, err := s.find(ctx, r)
	if err != nil {
		return migrate.TargetStatus{}, err
	}
	status := migrate.TargetStatus{Phase: migrate.TargetPhase(standby.Status.Phase), Message: standby.Status.Message}
	if status.Phase == "" {
		status.Phase = migrate.TargetPending
	}
	for _, v := range standby.Status.Volumes {
		status.Volumes = append(status.Volumes, migrate.TargetVolume{
			Namespace: v.Namespace, Name: v.Name, Volume: v.Volume, Reason: v.Reason,
			BytesTotal: v.BytesTotal, BytesDone: v.BytesDone, BytesPerSecond: v.BytesPerSecond, ETASec: v.SecondsLeft,
		})
	}
	for _, i := range standby.Status.Resources {
		status.Resources = append(status.Resources, migrate.TargetResource{
			Group: i.Group, Version: i.Version, Kind: i.Kind, Namespace: i.Namespace, Name: i.Name,
			OK: i.Status == api.MigrationStatusSuccessful, Reason: i.Reason,
		})
	}
	return status, nil
}

// Cancel deletes the Standby; its finalizer takes back a round that is not ready.
func (s *session) Cancel(ctx context.Context, r migrate.RoundRef) (bool, error) {
	standby, err := s.find(ctx, r)
	if err != nil {
		if isUnknown(err) {
			return true, nil
		}
		return false, err
	}
	if standby.DeletionTimestamp.IsZero() {
		if err := s.Client.Delete(ctx, standby); client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("delete Standby %s: %w", standby.Name, err)
		}
	}
	return false, nil
}
