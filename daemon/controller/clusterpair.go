package controller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
)

// +kubebuilder:rbac:groups=godwit.io,resources=clusterpairs,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=godwit.io,resources=clusterpairs/status,verbs=patch

// ClusterPairs makes pairs from tokens, and goes on checking that they stand.
type ClusterPairs struct {
	Client client.Client
	// Live reads past the cache, which may still ask for a replacement that was made.
	Live     client.Reader
	Peers    pairing.PeerStore
	Grants   pairing.GrantStore
	Exchange Exchange
	Locator  Locator
	Opener   snapshot.Opener
	Checker  RepositoryChecker
	// Passwords replaces those of repositories.
	Passwords snapshot.Passwords
	Events    Events
	// ClusterID is this cluster's.
	ClusterID string
	// Namespace is Godwit's own, where IncomingPairs keeps the other side's.
	Namespace string
}

// RepositoryChecker makes sure that a repository opens, making it first where there is
// none and create is set. It may be asked often.
type RepositoryChecker interface {
	Check(ctx context.Context, l snapshot.Location, create bool) error
}

// pairsAtOnce are looked at side by side, so that a target that does not answer keeps no
// other pair waiting.
const pairsAtOnce = 3

// SetupWithManager registers the reconciler.
func (r *ClusterPairs) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&api.ClusterPair{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		WithOptions(controller.Options{MaxConcurrentReconciles: pairsAtOnce}).
		Complete(r)
}

// Reconcile brings one pair nearer to Ready on both counts.
func (r *ClusterPairs) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	p, err := r.current(ctx, req.NamespacedName)
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if isIncoming(&p, r.Namespace) {
		return ctrl.Result{}, nil
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

// current is the pair from the cache, unless that asks for a replacement: it may have
// been made since.
func (r *ClusterPairs) current(ctx context.Context, key client.ObjectKey) (api.ClusterPair, error) {
	var cached, live api.ClusterPair
	if err := r.Client.Get(ctx, key, &cached); err != nil {
		return cached, err
	}
	if _, asked := cached.Annotations[api.AnnotationRotate]; !asked {
		return cached, nil
	}
	err := r.Live.Get(ctx, key, &live)
	return live, err
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
	p.Status.Repository = peer.RepositoryID()
	if name := p.Spec.Options[api.OptionRepositoryOf]; name != "" && peer.MakesRepository() {
		return &pairProblem{reason: "NotShared", err: fmt.Errorf(
			"spec.options.repositoryof names ClusterPair %s, and the pair has a repository of its own, which it keeps: remove the option, or pair by a new token", name)}
	}
	if peer, err = r.rotate(ctx, p, peer); err != nil {
		return &pairProblem{reason: "RotationFailed", err: err}
	}
	if peer, err = r.followTwin(ctx, peer); err != nil {
		return &pairProblem{reason: "PairingFailed", err: err}
	}
	expires, remoteProblem, err := r.Exchange.Check(ctx, peer)
	if err != nil {
		p.Status.SchedulerStatus = degraded(p.Status.SchedulerStatus)
		return &pairProblem{reason: checkReason(err), err: err}
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
		if _, remoteProblem, err = r.Exchange.Check(ctx, peer); err == nil && remoteProblem != "" {
			err = fmt.Errorf("the target cannot use the repository: %s", remoteProblem)
		}
		if err != nil {
			p.Status.StorageStatus = degraded(p.Status.StorageStatus)
			return &pairProblem{reason: "TargetStorageError", err: err}
		}
	}
	p.Status.StorageStatus = api.ClusterPairStatusReady
	if err := r.rotateSecrets(ctx, p, peer.PairID); err != nil {
		return &pairProblem{reason: "RotationFailed", err: err}
	}
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

// checkReason is why a pair that stood does not answer.
func checkReason(err error) string {
	switch {
	case errors.Is(err, pairing.ErrRevoked):
		return "Revoked"
	case errors.Is(err, pairing.ErrImpostor):
		return "TargetNotGenuine"
	case errors.Is(err, pairing.ErrCertificate):
		return "CertificateRefused"
	}
	return "TargetUnreachable"
}

var errNoToken = errors.New("no token")

// join gives the pair of the token that the ClusterPair has now. A pair that
// stands is kept when its token is gone or spoiled, and replaced by a new one's.
func (r *ClusterPairs) join(ctx context.Context, p *api.ClusterPair) (pairing.Peer, error) {
	token, tokenErr := tokenOf(p)
	peer, err := r.standing(ctx, p)
	if err != nil {
		return pairing.Peer{}, err
	}
	if peer.PairID != "" && (tokenErr != nil || token.ID == peer.PairID) {
		return r.Exchange.Move(ctx, peer, endpoint(p.Spec.Options, token))
	}
	if tokenErr != nil {
		return pairing.Peer{}, tokenErr
	}
	token.Endpoint = endpoint(p.Spec.Options, token)
	owner := pairing.ClusterPair{Namespace: p.Namespace, Name: p.Name, Bidirectional: bidirectional(p.Spec.Options)}
	if location := p.Spec.Options[api.OptionBackupLocation]; location != "" {
		owner.BackupLocation = p.Namespace + "/" + location
	}
	if owner.SharesWith, err = r.sharesWith(ctx, p); err != nil {
		return pairing.Peer{}, err
	}
	if peer, err = r.Exchange.Join(ctx, token, owner); err != nil {
		return pairing.Peer{}, err
	}
	return peer, r.forgetOthers(ctx, owner, peer.PairID)
}

// sharesWith is the id of the pair whose repository the ClusterPair is to use; empty for
// one of its own.
func (r *ClusterPairs) sharesWith(ctx context.Context, p *api.ClusterPair) (string, error) {
	name := p.Spec.Options[api.OptionRepositoryOf]
	if name == "" {
		return "", nil
	}
	var other api.ClusterPair
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: name}, &other)
	if apierrors.IsNotFound(err) {
		return "", fmt.Errorf("spec.options.repositoryof: there is no ClusterPair %s in namespace %s: correct it, or leave it out for a repository of its own", name, p.Namespace)
	}
	if err != nil {
		return "", fmt.Errorf("read ClusterPair %s/%s: %w", p.Namespace, name, err)
	}
	if other.Status.PairID == "" || other.Status.StorageStatus != api.ClusterPairStatusReady {
		return "", fmt.Errorf("spec.options.repositoryof: ClusterPair %s, whose repository is to be shared, is not ready yet", name)
	}
	mine, its := p.Spec.Options[api.OptionBackupLocation], other.Spec.Options[api.OptionBackupLocation]
	if mine != its {
		return "", fmt.Errorf("spec.options.backuplocation is %q, and that of ClusterPair %s, whose repository is to be shared, is %q: name the same", mine, name, its)
	}
	return other.Status.PairID, nil
}

// standing is the pair that the status names, if its keys are there.
func (r *ClusterPairs) standing(ctx context.Context, p *api.ClusterPair) (pairing.Peer, error) {
	if p.Status.PairID == "" {
		return pairing.Peer{}, nil
	}
	peer, err := r.Peers.Get(ctx, pairing.Outgoing, p.Status.PairID)
	if errors.Is(err, pairing.ErrNotFound) || err == nil && !peer.Joined() {
		return pairing.Peer{}, nil
	}
	if err != nil {
		return pairing.Peer{}, fmt.Errorf("read pair %s: %w", p.Status.PairID, err)
	}
	return peer, nil
}

func tokenOf(p *api.ClusterPair) (pairing.Token, error) {
	text := p.Spec.Options[api.OptionToken]
	if text == "" {
		return pairing.Token{}, fmt.Errorf("%w in spec.options.token: make one on the target with \"godwitctl generate clusterpair -n %s %s\" and apply what it prints here",
			errNoToken, p.Namespace, p.Name)
	}
	token, err := pairing.ParseToken(text)
	if err != nil {
		return pairing.Token{}, fmt.Errorf("spec.options.token: %w", err)
	}
	return token, nil
}

// bidirectional is asked for by an option, and else by the mode.
func bidirectional(options map[string]string) bool {
	if asked, err := strconv.ParseBool(options[api.OptionBidirectional]); err == nil {
		return asked
	}
	return options[api.OptionMode] == api.ModeDisasterRecovery
}

// forgetOthers drops what earlier tokens of the same ClusterPair left.
func (r *ClusterPairs) forgetOthers(ctx context.Context, owner pairing.ClusterPair, now string) error {
	others, err := pairing.Superseded(ctx, r.Peers, owner, now)
	if err != nil {
		return err
	}
	for _, other := range others {
		if err := r.forget(ctx, other); err != nil {
			return err
		}
	}
	return nil
}

// forget ends a pair on both sides. That the target cannot be told keeps nobody
// from forgetting it here: without our key nobody can use it there.
func (r *ClusterPairs) forget(ctx context.Context, peer pairing.Peer) error {
	untold := r.tell(ctx, peer)
	if err := r.Locator.DeleteSecret(ctx, peer.PairID); err != nil {
		return err
	}
	if peer.Twin != "" {
		if err := pairing.Revoke(ctx, r.Grants, r.Peers, peer.Twin); err != nil {
			return err
		}
	}
	if err := r.Peers.Delete(ctx, pairing.Outgoing, peer.PairID); err != nil {
		return fmt.Errorf("forget pair %s: %w", peer.PairID, err)
	}
	if untold != nil {
		r.Events.Eventf(pairRef(peer), nil, corev1.EventTypeWarning, "TargetNotTold", "Leave",
			"the pair is gone here, but the target does not know: %s", untold)
	}
	return nil
}

// tell says goodbye, without waiting long for a target that is gone.
func (r *ClusterPairs) tell(ctx context.Context, peer pairing.Peer) error {
	ctx, cancel := context.WithTimeout(ctx, leavePatience)
	defer cancel()
	err := r.Exchange.Leave(ctx, peer)
	if errors.Is(err, pairing.ErrRevoked) {
		return nil
	}
	return err
}

func pairRef(peer pairing.Peer) *api.ClusterPair {
	return &api.ClusterPair{
		TypeMeta:   metav1.TypeMeta{APIVersion: api.GroupVersion().String(), Kind: "ClusterPair"},
		ObjectMeta: metav1.ObjectMeta{Namespace: peer.Namespace, Name: peer.Name},
	}
}

// rotate replaces the pair's key and certificate where the annotation asks for it.
func (r *ClusterPairs) rotate(ctx context.Context, p *api.ClusterPair, peer pairing.Peer) (pairing.Peer, error) {
	value, asked := p.Annotations[api.AnnotationRotate]
	words, err := api.Rotations(value)
	if err != nil || !asked || len(words) > 0 && !slices.Contains(words, api.RotateCertificate) {
		return peer, nil //nolint:nilerr // rotateSecrets tells of words that are not known
	}
	if peer, err = r.Exchange.Rotate(ctx, peer); err != nil {
		return pairing.Peer{}, err
	}
	return peer, r.noteRotated(ctx, p, api.RotateCertificate, "key and certificate of the pair are new; the old ones are refused")
}

// backupLocation is this side's, as namespace/name.
func backupLocation(p *api.ClusterPair) (string, error) {
	name := p.Spec.Options[api.OptionBackupLocation]
	if name == "" {
		return "", fmt.Errorf("spec.options.backuplocation names no BackupLocation of namespace %s: set it", p.Namespace)
	}
	return p.Namespace + "/" + name, nil
}

// endpoint is where the ClusterPair says the target is, or else the token.
func endpoint(options map[string]string, token pairing.Token) string {
	if options[api.OptionIP] == "" || options[api.OptionPort] == "" {
		return token.Endpoint
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
	if err := r.Checker.Check(ctx, loc, peer.MakesRepository()); err != nil {
		return err
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
	if err := writePairStatus(ctx, r.Client, p, before); err != nil {
		return ctrl.Result{}, err
	}
	if changed {
		kind := corev1.EventTypeNormal
		if problem != nil {
			kind = corev1.EventTypeWarning
		}
		r.Events.Eventf(p, nil, kind, ready.Reason, "Pair", "%s", ready.Message)
	}
	if problem != nil || meta.IsStatusConditionTrue(p.Status.Conditions, api.ConditionRotating) {
		return ctrl.Result{RequeueAfter: clusterPairRetry}, nil
	}
	return ctrl.Result{RequeueAfter: clusterPairRecheck}, nil
}

// writePairStatus leaves a pair alone that stands as it did: pairs are looked at for as
// long as they exist, and an API server answers an empty patch like any other.
func writePairStatus(ctx context.Context, c client.Client, p, before *api.ClusterPair) error {
	if equality.Semantic.DeepEqual(before.Status, p.Status) {
		return nil
	}
	if err := c.Status().Patch(ctx, p, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("write status of ClusterPair %s/%s: %w", p.Namespace, p.Name, err)
	}
	return nil
}

// leave ends the pair. The repository and its images stay.
func (r *ClusterPairs) leave(ctx context.Context, p *api.ClusterPair) error {
	if !controllerutil.ContainsFinalizer(p, api.Finalizer) {
		return nil
	}
	// Pairs of before names were kept are found by their id only.
	if id := pairID(p); id != "" {
		peer, err := r.Peers.Get(ctx, pairing.Outgoing, id)
		if err == nil && peer.Namespace == p.Namespace {
			err = r.forget(ctx, peer)
		}
		if err != nil && !errors.Is(err, pairing.ErrNotFound) {
			return err
		}
	}
	if err := r.forgetOthers(ctx, pairing.ClusterPair{Namespace: p.Namespace, Name: p.Name}, ""); err != nil {
		return err
	}
	before := p.DeepCopy()
	controllerutil.RemoveFinalizer(p, api.Finalizer)
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
