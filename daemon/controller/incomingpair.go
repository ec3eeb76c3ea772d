package controller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing"
)

// IncomingPairs shows each pair by which another cluster sends to this one as a
// ClusterPair in Godwit's own namespace. Deleting it there revokes the pair.
type IncomingPairs struct {
	Client  client.Client
	Peers   pairing.PeerStore
	Grants  pairing.GrantStore
	Locator Locator
	Events  Events
	// Namespace is Godwit's own.
	Namespace string
	Now       func() time.Time
	// Changed tells of pairs that came to be or were left.
	Changed <-chan event.GenericEvent
}

// SetupWithManager registers the reconciler.
func (r *IncomingPairs) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("incomingpair").
		For(&api.ClusterPair{}).
		WatchesRawSource(source.Channel(r.Changed, &handler.EnqueueRequestForObject{})).
		Complete(r)
}

// IncomingPair is the object, by name only, that stands for the pair; for events.
func IncomingPair(namespace, pairID string) *api.ClusterPair {
	return &api.ClusterPair{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: "from-" + pairID,
		Labels: map[string]string{api.LabelDirection: api.DirectionIncoming, labelManaged: managedBy},
	}}
}

func isIncoming(p *api.ClusterPair, home string) bool {
	return p.Namespace == home && p.Labels[api.LabelDirection] == api.DirectionIncoming
}

// Reconcile keeps the object of one pair as the pair is.
func (r *IncomingPairs) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	id, found := strings.CutPrefix(req.Name, "from-")
	if !found || req.Namespace != r.Namespace {
		return ctrl.Result{}, nil
	}
	peer, err := r.Peers.Get(ctx, pairing.Incoming, id)
	gone := errors.Is(err, pairing.ErrNotFound)
	if err != nil && !gone {
		return ctrl.Result{}, fmt.Errorf("read pair %s: %w", id, err)
	}
	var p api.ClusterPair
	err = r.Client.Get(ctx, req.NamespacedName, &p)
	switch {
	case apierrors.IsNotFound(err) && gone:
		return ctrl.Result{}, nil
	case apierrors.IsNotFound(err):
		return ctrl.Result{}, r.show(ctx, peer)
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("read ClusterPair %s: %w", req, err)
	case !isIncoming(&p, r.Namespace):
		return ctrl.Result{}, nil
	case !p.DeletionTimestamp.IsZero():
		return ctrl.Result{}, r.revoke(ctx, &p, id)
	case gone:
		return ctrl.Result{}, client.IgnoreNotFound(r.Client.Delete(ctx, &p))
	}
	if err := r.report(ctx, &p, peer, r.openWayBack(ctx, peer)); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: clusterPairRecheck}, nil
}

// show makes the object, finalizer first, so that no pair is forgotten with it.
func (r *IncomingPairs) show(ctx context.Context, peer pairing.Peer) error {
	p := IncomingPair(r.Namespace, peer.PairID)
	p.Finalizers = []string{api.Finalizer}
	p.Spec.Options = map[string]string{"direction": api.DirectionIncoming, "namespaces": peer.Scope.String()}
	if err := r.Client.Create(ctx, p); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create ClusterPair %s/%s: %w", p.Namespace, p.Name, err)
	}
	return nil
}

// revoke ends the pair: the calls of the other cluster are refused from here on.
func (r *IncomingPairs) revoke(ctx context.Context, p *api.ClusterPair, id string) error {
	if err := pairing.Revoke(ctx, r.Grants, r.Peers, id); err != nil {
		return err
	}
	if err := r.Locator.DeleteSecret(ctx, id); err != nil {
		return err
	}
	before := p.DeepCopy()
	if !controllerutil.RemoveFinalizer(p, api.Finalizer) {
		return nil
	}
	return client.IgnoreNotFound(r.Client.Patch(ctx, p, client.MergeFrom(before)))
}

func (r *IncomingPairs) report(ctx context.Context, p *api.ClusterPair, peer pairing.Peer, wayBack error) error {
	before := p.DeepCopy()
	p.Status.RemoteClusterName, p.Status.RemoteStorageID = peer.ClusterName, peer.ClusterID
	p.Status.CertificateExpires = &metav1.Time{Time: peer.CertificateExpires}
	p.Status.StorageStatus, p.Status.ObservedGeneration = api.ClusterPairStatusNotProvided, p.Generation
	ready := metav1.Condition{Type: api.ConditionReady, ObservedGeneration: p.Generation, Status: metav1.ConditionFalse}
	switch {
	case !peer.Left.IsZero():
		ready.Reason = "Left"
		ready.Message = fmt.Sprintf("cluster %s removed this pair at %s: delete this ClusterPair", peer.ClusterName, peer.Left.UTC().Format(time.RFC3339))
	case r.Now().After(peer.CertificateExpires):
		ready.Reason = "CertificateExpired"
		ready.Message = fmt.Sprintf("cluster %s has not called since its certificate expired at %s: it renews it by itself when it is back; if it will not be back, delete this ClusterPair",
			peer.ClusterName, peer.CertificateExpires.UTC().Format(time.RFC3339))
	case wayBack != nil:
		ready.Reason, ready.Message = "WayBackNotOpen", wayBack.Error()
	default:
		ready.Status, ready.Reason = metav1.ConditionTrue, "PairedFrom"
		ready.Message = fmt.Sprintf("cluster %s may send here for namespaces: %s", peer.ClusterName, peer.Scope)
	}
	p.Status.SchedulerStatus = api.ClusterPairStatusReady
	if ready.Status == metav1.ConditionFalse && wayBack == nil {
		p.Status.SchedulerStatus = api.ClusterPairStatusDegraded
	}
	changed := meta.SetStatusCondition(&p.Status.Conditions, ready)
	if err := writePairStatus(ctx, r.Client, p, before); err != nil {
		return err
	}
	if changed {
		kind := corev1.EventTypeNormal
		if ready.Status == metav1.ConditionFalse {
			kind = corev1.EventTypeWarning
		}
		r.Events.Eventf(p, nil, kind, ready.Reason, "Pair", "%s", ready.Message)
	}
	return nil
}

// openWayBack makes the ClusterPair by which this cluster sends to the one that
// paired with it, from the token that came along.
func (r *IncomingPairs) openWayBack(ctx context.Context, peer pairing.Peer) error {
	if peer.Return == "" || !peer.Left.IsZero() {
		return nil
	}
	token, err := pairing.ParseToken(peer.Return.Reveal())
	if err != nil {
		return fmt.Errorf("the token for the other direction: %w", err)
	}
	if !peer.Scope.Admin {
		if err := peer.Scope.Covers(peer.Namespace); err != nil {
			return err
		}
	}
	host, port, err := net.SplitHostPort(token.Endpoint)
	if err != nil {
		return fmt.Errorf("the token for the other direction: %w", err)
	}
	name := peer.Name
	if name == "" {
		name = "to-" + peer.PairID
	}
	back := &api.ClusterPair{ObjectMeta: metav1.ObjectMeta{Namespace: peer.Namespace, Name: name}}
	back.Spec.Options = map[string]string{
		api.OptionIP: host, api.OptionPort: port, api.OptionToken: peer.Return.Reveal(),
		api.OptionMode: api.ModeDisasterRecovery, api.OptionBidirectional: "false",
	}
	if location, ok := strings.CutPrefix(peer.BackupLocation, peer.Namespace+"/"); ok {
		back.Spec.Options[api.OptionBackupLocation] = location
	}
	err = r.Client.Create(ctx, back)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("ClusterPair %s/%s for the other direction waits for the namespace to be there", peer.Namespace, name)
	case apierrors.IsAlreadyExists(err):
		r.Events.Eventf(IncomingPair(r.Namespace, peer.PairID), nil, corev1.EventTypeNormal, "WayBackKept", "Pair",
			"ClusterPair %s/%s exists already and is left as it is", peer.Namespace, name)
	case err != nil:
		return fmt.Errorf("create ClusterPair %s/%s for the other direction: %w", peer.Namespace, name, err)
	}
	peer.Return = ""
	if _, err := r.Peers.Put(ctx, peer); err != nil {
		return fmt.Errorf("note that the other direction is open: %w", err)
	}
	return nil
}

// Watch tells Changed, until ctx ends, of every pair from time to time: one may
// have been made by another replica, or before this one led.
func (r *IncomingPairs) Watch(ctx context.Context, tell func(pairID string)) error {
	ticker := time.NewTicker(clusterPairRecheck)
	defer ticker.Stop()
	for {
		peers, err := r.Peers.List(ctx, pairing.Incoming)
		if err != nil && ctx.Err() == nil {
			ctrl.LoggerFrom(ctx).Error(err, "list pairs from other clusters")
		}
		for _, p := range peers {
			tell(p.PairID)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
