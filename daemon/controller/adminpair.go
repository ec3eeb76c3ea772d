package controller

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"github.com/godwit-io/godwit/daemon/migrate"
)

// observeAdminPair looks at the pair that answers for objects without a
// namespace. It lies in the admin namespace, where only administrators make pairs.
func (x *run) observeAdminPair(ctx context.Context) error {
	o := &x.observed
	o.AdminPairName = x.m.Spec.AdminClusterPair
	if o.AdminPairName == "" || o.Ended || o.Deleting {
		return nil
	}
	found, err := x.lookAtPair(ctx, types.NamespacedName{Namespace: x.AdminNamespace, Name: o.AdminPairName})
	if err != nil {
		return err
	}
	o.AdminPair = found.Pair
	if !found.Ready || !o.Pair.Ready {
		return nil
	}
	// A round that was begun is not ended by what becomes of a pair that it does
	// not need any more.
	if (!found.peer.Scope.Admin || found.peer.ClusterID != x.peer.ClusterID) && o.Begun {
		o.AdminPair.Ready = false
		return nil
	}
	name := x.AdminNamespace + "/" + o.AdminPairName
	switch {
	case !found.peer.Scope.Admin:
		return final("AdminPairInvalid", "spec.adminClusterPair: ClusterPair %s is no admin pair: make its token on the target with \"godwitctl create token --admin\"", name)
	case found.peer.ClusterID != x.peer.ClusterID:
		return final("AdminPairInvalid", "spec.adminClusterPair: ClusterPair %s leads to cluster %s, and ClusterPair %s to %s: name one that leads to the same cluster",
			name, found.peer.ClusterName, o.PairName, x.peer.ClusterName)
	}
	x.admin, err = x.Remote.Target(ctx, found.peer)
	return err
}

// bringsClusterScoped is true where a pair may bring what has no namespace.
func (x *run) bringsClusterScoped() bool {
	return x.peer.Scope.Admin || x.m.Spec.AdminClusterPair != ""
}

// vouch has the admin pair answer for the round that was just begun.
func (x *run) vouch(ctx context.Context, claims []migrate.Claim) error {
	if x.m.Spec.AdminClusterPair == "" {
		return nil
	}
	name := x.AdminNamespace + "/" + x.m.Spec.AdminClusterPair
	if x.admin == nil {
		return fmt.Errorf("round %s: ClusterPair %s is not ready to vouch for it", x.m.Status.Round, name)
	}
	_, moved := partMoved(claims)
	if err := x.admin.Vouch(ctx, migrate.Vouch{RoundRef: x.round(), PairID: x.peer.PairID, Moved: moved}); err != nil {
		return fmt.Errorf("have ClusterPair %s vouch for round %s: %w", name, x.m.Status.Round, err)
	}
	return nil
}
