package controller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
)

// +kubebuilder:rbac:groups=godwit.io,resources=clusterpairs,verbs=get;list;watch;update;patch
// +kubebuilder:rbac:groups=godwit.io,resources=clusterpairs/status;clusterpairs/finalizers,verbs=get;update;patch

// ClusterPairs makes pairs from tokens, and goes on checking that they stand.
type ClusterPairs struct {
	Client  client.Client
	Peers   pairing.PeerStore
	Remote  Remote
	Locator Locator
	Opener  snapshot.Opener
	Events  Events
}

// SetupWithManager registers the reconciler.
func (r *ClusterPairs) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&api.ClusterPair{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(r)
}

// Reconcile brings one pair nearer to Ready on both counts.
func (r *ClusterPairs) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var p api.ClusterPair
	if err := r.Client.Get(ctx, req.NamespacedName, &p); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !p.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.leave(ctx, &p)
	}
	before := p.DeepCopy()
	if controllerutil.AddFinalizer(&p, api.Finalizer) {
		// The finalizer goes first: a peer that is joined must not be forgotten.
		return ctrl.Result{RequeueAfter: time.Millisecond}, r.Client.Patch(ctx, &p, client.MergeFrom(before))
	}
	problem := r.stand(ctx, &p)
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	return r.report(ctx, &p, before, problem)
}

// pairProblem is what stands in the way, in a word and in a line.
type pairProblem struct {
	reason string
	err    error
}

// stand joins where needed and checks the agent, then the storage.
func (r *ClusterPairs) stand(ctx context.Context, p *api.ClusterPair) *pairProblem {
	peer, err := r.join(ctx, p)
	if err != nil {
		p.Status.SchedulerStatus = degraded(p.Status.SchedulerStatus)
		return &pairProblem{reason: joinReason(err), err: err}
	}
	p.Status.PairID, p.Status.RemoteStorageID, p.Status.RemoteClusterName = peer.PairID, peer.ClusterID, peer.ClusterName
	expires, remoteProblem, err := r.Remote.Check(ctx, peer)
	if err != nil {
		p.Status.SchedulerStatus = degraded(p.Status.SchedulerStatus)
		return &pairProblem{reason: "TargetUnreachable", err: err}
	}
	p.Status.SchedulerStatus = api.ClusterPairStatusReady
	if !expires.IsZero() {
		p.Status.CertificateExpires = &metav1.Time{Time: expires}
	}
	if err := r.storage(ctx, p, peer); err != nil {
		p.Status.StorageStatus = degraded(p.Status.StorageStatus)
		return &pairProblem{reason: "StorageError", err: err}
	}
	// The target looked before the repository was made: ask it once more.
	if remoteProblem != "" {
		if _, remoteProblem, err = r.Remote.Check(ctx, peer); err == nil && remoteProblem != "" {
			err = fmt.Errorf("the target cannot use the repository: %s", remoteProblem)
		}
		if err != nil {
			p.Status.StorageStatus = degraded(p.Status.StorageStatus)
			return &pairProblem{reason: "TargetStorageError", err: err}
		}
	}
	p.Status.StorageStatus = api.ClusterPairStatusReady
	return nil
}

// degraded tells a pair that once stood from one that never did.
func degraded(s api.ClusterPairStatusType) api.ClusterPairStatusType {
	if s == api.ClusterPairStatusReady || s == api.ClusterPairStatusDegraded {
		return api.ClusterPairStatusDegraded
	}
	return api.ClusterPairStatusError
}

func joinReason(err error) string {
	switch {
	case errors.Is(err, pairing.ErrTokenExpired):
		return "TokenExpired"
	case errors.Is(err, pairing.ErrTokenUsed):
		return "TokenUsed"
	case errors.Is(err, errNoToken):
		return "NoToken"
	}
	return "PairingFailed"
}

var errNoToken = errors.New("no token")

func (r *ClusterPairs) join(ctx context.Context, p *api.ClusterPair) (pairing.Peer, error) {
	if p.Status.PairID != "" {
		peer, err := r.Peers.Get(ctx, pairing.Outgoing, p.Status.PairID)
		if err == nil && peer.Joined() {
			return peer, nil
		}
		if err != nil && !errors.Is(err, pairing.ErrNotFound) {
			return pairing.Peer{}, fmt.Errorf("read pair %s: %w", p.Status.PairID, err)
		}
	}
	text := p.Spec.Options[api.OptionToken]
	if text == "" {
		return pairing.Peer{}, fmt.Errorf("%w in spec.options.token: make one on the target with \"godwitctl generate clusterpair -n %s %s\" and apply what it prints here",
			errNoToken, p.Namespace, p.Name)
	}
	token, err := pairing.ParseToken(text)
	if err != nil {
		return pairing.Peer{}, fmt.Errorf("spec.options.token: %w", err)
	}
	if override := endpoint(p.Spec.Options); override != "" {
		token.Endpoint = override
	}
	return r.Remote.Join(ctx, token, p.Namespace)
}

// backupLocation is this side's, as namespace/name.
func backupLocation(p *api.ClusterPair) (string, error) {
	name := p.Spec.Options[api.OptionBackupLocation]
	if name == "" {
		return "", fmt.Errorf("spec.options.backuplocation names no BackupLocation of namespace %s: set it", p.Namespace)
	}
	return p.Namespace + "/" + name, nil
}

func endpoint(options map[string]string) string {
	if options[api.OptionIP] == "" || options[api.OptionPort] == "" {
		return ""
	}
	return net.JoinHostPort(options[api.OptionIP], options[api.OptionPort])
}

// storage makes the pair's repository where there is none, and hands it to the nodes.
func (r *ClusterPairs) storage(ctx context.Context, p *api.ClusterPair, peer pairing.Peer) error {
	location, err := backupLocation(p)
	if err != nil {
		return err
	}
	loc, err := r.Locator.ForPeer(ctx, peer, location)
	if err != nil {
		return err
	}
	repository, err := r.Opener.Open(ctx, loc, true)
	if err != nil {
		return err
	}
	if err := repository.Close(ctx); err != nil {
		return fmt.Errorf("close repository of pair %s: %w", peer.PairID, err)
	}
	_, err = r.Locator.EnsureSecret(ctx, peer, location)
	return err
}

func (r *ClusterPairs) report(ctx context.Context, p, before *api.ClusterPair, problem *pairProblem) (ctrl.Result, error) {
	ready := metav1.Condition{Type: api.ConditionReady, ObservedGeneration: p.Generation}
	if problem == nil {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionTrue, "Paired", "paired with "+p.Status.RemoteClusterName
	} else {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, problem.reason, problem.err.Error()
	}
	changed := meta.SetStatusCondition(&p.Status.Conditions, ready)
	p.Status.ObservedGeneration = p.Generation
	if err := r.Client.Status().Patch(ctx, p, client.MergeFrom(before)); err != nil {
		return ctrl.Result{}, fmt.Errorf("write status of ClusterPair %s/%s: %w", p.Namespace, p.Name, err)
	}
	if changed {
		kind := corev1.EventTypeNormal
		if problem != nil {
			kind = corev1.EventTypeWarning
		}
		r.Events.Eventf(p, nil, kind, ready.Reason, "Pair", "%s", ready.Message)
	}
	if problem != nil {
		return ctrl.Result{RequeueAfter: clusterPairRetry}, nil
	}
	return ctrl.Result{RequeueAfter: clusterPairRecheck}, nil
}

// leave forgets the pair on this side. The repository and its images stay.
func (r *ClusterPairs) leave(ctx context.Context, p *api.ClusterPair) error {
	if id := pairID(p); id != "" {
		r.Remote.Leave(id)
		if err := r.Locator.DeleteSecret(ctx, id); err != nil {
			return err
		}
		if err := r.Peers.Delete(ctx, pairing.Outgoing, id); err != nil {
			return fmt.Errorf("forget pair %s: %w", id, err)
		}
	}
	before := p.DeepCopy()
	if !controllerutil.RemoveFinalizer(p, api.Finalizer) {
		return nil
	}
	return client.IgnoreNotFound(r.Client.Patch(ctx, p, client.MergeFrom(before)))
}

// pairID is the token's where a crash kept the status from saying it.
func pairID(p *api.ClusterPair) string {
	if p.Status.PairID != "" {
		return p.Status.PairID
	}
	token, err := pairing.ParseToken(p.Spec.Options[api.OptionToken])
	if err != nil {
		return ""
	}
	return token.ID
}
