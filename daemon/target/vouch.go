package target

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/target/admission"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/pairing"
)

// Vouch is migrate.Target's. Only the pair's own certificate makes it an admin
// pair, and only for pairs of the same cluster.
func (s *session) Vouch(ctx context.Context, v migrate.Vouch) error {
	if err := s.admit(v.Application, v.Namespaces, nil); err != nil {
		return err
	}
	if !s.peer.Scope.Admin {
		return fmt.Errorf("pair %s vouches for round %s of %s: %w: it is no admin pair%s",
			s.peer.PairID, v.Round, v.Application, pairing.ErrNamespace, adminRemedy)
	}
	if err := s.sameCluster(ctx, v.PairID); err != nil {
		return err
	}
	var standby api.Standby
	name := types.NamespacedName{Namespace: s.Namespace, Name: standbyName(v.PairID, v.Application)}
	err := s.Live.Get(ctx, name, &standby)
	if apierrors.IsNotFound(err) || err == nil && (standby.Spec.PairID != v.PairID || standby.Spec.Round != v.Round) {
		return fmt.Errorf("round %s of %s: %w", v.Round, v.Application, migrate.ErrUnknownRound)
	}
	if err != nil {
		return fmt.Errorf("read Standby %s: %w", name, err)
	}
	// The namespaces of the round itself count, whatever the caller says of them.
	if err := s.policyOf(s.peer).CoverNamespace(standby.Spec.Namespaces...); err != nil {
		return err
	}
	moved, err := vouchedMoved(&standby, v.Moved)
	if err != nil {
		return err
	}
	if was := standby.Spec.Vouched; was != nil && was.Round == v.Round && was.PairID == s.peer.PairID {
		return nil
	}
	before := standby.DeepCopy()
	standby.Spec.Vouched = &api.StandbyVouch{PairID: s.peer.PairID, Round: v.Round, Moved: moved}
	if err := s.Client.Patch(ctx, &standby, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("note who vouches for Standby %s: %w", name, err)
	}
	return nil
}

// vouchedMoved is the digest of the volumes that are handed over where the caller
// answers for those that the round has, and not for others.
func vouchedMoved(standby *api.Standby, claims []migrate.Claim) (string, error) {
	asked, err := digestAsked(claims)
	if err != nil {
		return "", fmt.Errorf("%w: %w", pairing.ErrRequest, err)
	}
	held, err := digestHeld(standby)
	if err != nil {
		return "", fmt.Errorf("%w: round %s: %w", pairing.ErrRequest, standby.Spec.Round, err)
	}
	if asked != held {
		return "", fmt.Errorf("round %s of %s: action Move: %w: the volumes that the round was begun with are not those that are vouched for",
			standby.Spec.Round, standby.Spec.Application, pairing.ErrRequest)
	}
	return held, nil
}

// sameCluster refuses a pair that is not of the caller's own cluster.
func (s *session) sameCluster(ctx context.Context, pair string) error {
	other, err := s.Peers.Get(ctx, pairing.Incoming, pair)
	if err != nil && !errors.Is(err, pairing.ErrNotFound) {
		return fmt.Errorf("read pair %s: %w", pair, err)
	}
	if err != nil || other.ClusterID != s.peer.ClusterID {
		return fmt.Errorf("pair %s vouches for pair %s: %w: that is no pair of the same cluster", s.peer.PairID, pair, pairing.ErrRequest)
	}
	return nil
}

const adminRemedy = ": pair with a token made by \"godwitctl create token --admin\""

// awaitsVouch is true for a round that shall not begin yet. One that is to be
// activated does not wait for a source that may be gone.
func (x *run) awaitsVouch() bool {
	s := x.s.Spec
	vouched := s.Vouched != nil && s.Vouched.Round == s.Round
	return s.AwaitVouch && !vouched && !s.Cancel && s.Activation == nil && x.s.DeletionTimestamp.IsZero()
}

// findVoucher looks for the admin pair that vouched for this very round, as it
// is now: one that was revoked since answers for nothing.
func (x *run) findVoucher(ctx context.Context, round string) error {
	x.voucher = nil
	v := x.s.Spec.Vouched
	if v == nil || v.Round != round {
		return nil
	}
	peer, err := x.Peers.Get(ctx, pairing.Incoming, v.PairID)
	if errors.Is(err, pairing.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read pair %s: %w", v.PairID, err)
	}
	if peer.Scope.Admin && peer.Left.IsZero() && peer.ClusterID == x.peer.ClusterID {
		x.voucher = &peer
	}
	return nil
}

// judge decides about an object by the pair that answers for it: the round's
// own, or for what has no namespace the admin pair that vouches.
func (x *run) judge(ctx context.Context, moved workload.Moved, coming []workload.Moved) (admission.Decision, error) {
	premises := &premises{Agent: x.Agent, run: x, coming: coming}
	vouched, err := x.vouchedFor(ctx, premises, moved)
	if err != nil {
		return admission.Decision{}, err
	}
	if !vouched {
		return x.decide(ctx, moved.Unstructured, coming)
	}
	if isNamespace(moved.Unstructured) {
		// A namespace that stands keeps its labels: they are the target's.
		own, err := x.decide(ctx, moved.Unstructured, coming)
		if err != nil || own.Refused != "" || own.Leave {
			return own, err
		}
	}
	return x.policyOf(*x.voucher).Decide(ctx, premises, moved.Unstructured)
}

// vouchedFor is true for what has no namespace and is as the source's cluster has
// it. What the rules of a Migration have changed is its owner's work, who need not
// be an administrator there.
func (x *run) vouchedFor(ctx context.Context, p *premises, moved workload.Moved) (bool, error) {
	if x.voucher == nil || len(moved.By) > 0 || moved.GetNamespace() != "" {
		return false, nil
	}
	if isNamespace(moved.Unstructured) {
		return true, nil
	}
	kind, err := p.Kind(ctx, moved.GroupVersionKind())
	return err == nil && kind.Served && !kind.Namespaced, err
}

func isNamespace(o unstructured.Unstructured) bool {
	return o.GroupVersionKind().GroupKind() == schema.GroupKind{Kind: "Namespace"}
}
