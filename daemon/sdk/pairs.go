package sdk

import (
	"context"
	"fmt"
	"net"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/openstorage"
)

// Pairs is the backend of OpenStorageClusterPair.
type Pairs struct{ *Backend }

var _ openstorage.Pairs = Pairs{}

// Create redeems the token and writes the ClusterPair that keeps the pair.
func (b Pairs) Create(ctx context.Context, r openstorage.PairRequest) (openstorage.Pair, error) {
	token, err := pairing.ParseToken(r.Token.Reveal())
	if err != nil {
		return openstorage.Pair{}, err
	}
	host, port, err := net.SplitHostPort(r.Endpoint)
	if err != nil || pairing.CheckEndpoint(r.Endpoint) != nil {
		return openstorage.Pair{}, fmt.Errorf("%w: %q is no address and port", openstorage.ErrRequest, r.Endpoint)
	}
	token.Endpoint = r.Endpoint
	p := &api.ClusterPair{ObjectMeta: metav1.ObjectMeta{
		Namespace: b.Namespace, Name: objectName("pair", token.ID), Labels: map[string]string{labelMadeBy: madeBy}, Annotations: map[string]string{},
	}}
	p.Spec.Options = map[string]string{
		api.OptionIP: host, api.OptionPort: port, api.OptionToken: r.Token.Reveal(), api.OptionMode: r.Mode, api.OptionBidirectional: "false",
	}
	location, err := b.locationOf(ctx, r.CredentialID, token.ClusterID)
	if err != nil {
		return openstorage.Pair{}, err
	}
	if location != "" {
		p.Spec.Options[api.OptionBackupLocation] = location
	}
	if r.Default {
		p.Annotations[annotationDefault] = "true"
	}
	peer, err := b.Join(ctx, token, pairing.ClusterPair{Namespace: p.Namespace, Name: p.Name})
	if err != nil {
		return openstorage.Pair{}, err
	}
	if err := b.Client.Create(ctx, p); err != nil && !apierrors.IsAlreadyExists(err) {
		return openstorage.Pair{}, fmt.Errorf("create ClusterPair %s/%s: %w", p.Namespace, p.Name, err)
	}
	if r.Default {
		if err := b.onlyDefault(ctx, p.Name); err != nil {
			return openstorage.Pair{}, err
		}
	}
	return pairOf(peer, p), nil
}

// locationOf is the BackupLocation of a pair with the cluster that receives: the
// one that is asked for, or by Portworx' convention the credential that both
// clusters keep by the receiver's id. Empty where there is none.
func (b Pairs) locationOf(ctx context.Context, credentialID, receiver string) (string, error) {
	if credentialID != "" {
		name, err := b.locationName(credentialID)
		if err != nil {
			return "", fmt.Errorf("%w: %w", openstorage.ErrRequest, err)
		}
		return name, nil
	}
	name := objectName("credential", "clusterPair_"+receiver)
	err := b.Client.Get(ctx, client.ObjectKey{Namespace: b.Namespace, Name: name}, &api.BackupLocation{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read BackupLocation %s: %w", name, err)
	}
	return name, nil
}

// onlyDefault takes the mark from all pairs but one.
func (b Pairs) onlyDefault(ctx context.Context, name string) error {
	var list api.ClusterPairList
	if err := b.Client.List(ctx, &list, client.InNamespace(b.Namespace)); err != nil {
		return fmt.Errorf("list ClusterPairs: %w", err)
	}
	for i := range list.Items {
		p := &list.Items[i]
		if p.Name == name || p.Annotations[annotationDefault] == "" {
			continue
		}
		before := p.DeepCopy()
		delete(p.Annotations, annotationDefault)
		if err := b.Client.Patch(ctx, p, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("take the default from ClusterPair %s: %w", p.Name, err)
		}
	}
	return nil
}

func pairOf(peer pairing.Peer, p *api.ClusterPair) openstorage.Pair {
	options := map[string]string{"namespace": p.Namespace, "name": p.Name}
	for _, key := range []string{api.OptionBackupLocation, api.OptionMode} {
		if value := p.Spec.Options[key]; value != "" {
			options[key] = value
		}
	}
	return openstorage.Pair{
		ID: peer.ClusterID, Name: peer.ClusterName, Endpoint: peer.Endpoint, Addresses: append([]string{peer.Endpoint}, peer.Addresses...),
		Mode: p.Spec.Options[api.OptionMode], Options: options, Default: p.Annotations[annotationDefault] == "true",
	}
}

// held is a ClusterPair with the pair that it keeps.
type held struct {
	object api.ClusterPair
	peer   pairing.Peer
}

// held lists the pairs of every namespace that lead to other clusters.
func (b *Backend) held(ctx context.Context) ([]held, error) {
	var list api.ClusterPairList
	if err := b.Client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list ClusterPairs: %w", err)
	}
	peers, err := b.Peers.List(ctx, pairing.Outgoing)
	if err != nil {
		return nil, fmt.Errorf("list pairs: %w", err)
	}
	var all []held
	for _, p := range list.Items {
		for _, peer := range peers {
			if peer.Joined() && peer.Namespace == p.Namespace && (peer.Name == p.Name || peer.PairID == p.Status.PairID) {
				all = append(all, held{p, peer})
			}
		}
	}
	return all, nil
}

// List is openstorage.Pairs'.
func (b Pairs) List(ctx context.Context) ([]openstorage.Pair, error) {
	all, err := b.held(ctx)
	if err != nil {
		return nil, err
	}
	pairs := make([]openstorage.Pair, 0, len(all))
	for _, h := range all {
		pairs = append(pairs, pairOf(h.peer, &h.object))
	}
	return pairs, nil
}

// Delete deletes the ClusterPairs that the SDK made for a cluster. Others are
// their owners' to delete.
func (b Pairs) Delete(ctx context.Context, clusterID string) error {
	all, err := b.held(ctx)
	if err != nil {
		return err
	}
	found, others := false, error(nil)
	for _, h := range all {
		if h.peer.ClusterID != clusterID {
			continue
		}
		if h.object.Labels[labelMadeBy] != madeBy {
			others = fmt.Errorf("%w: ClusterPair %s/%s was not made by way of the SDK: delete it with kubectl", openstorage.ErrRequest, h.object.Namespace, h.object.Name)
			continue
		}
		found = true
		if err := b.Client.Delete(ctx, &h.object); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete ClusterPair %s: %w", h.object.Name, err)
		}
	}
	if !found && others != nil {
		return others
	}
	if !found {
		return fmt.Errorf("cluster %q: %w", clusterID, openstorage.ErrNotFound)
	}
	return nil
}

// Token makes an admin's token, since the SDK knows no namespaces; only admins
// of the SDK may ask for it.
func (b Pairs) Token(ctx context.Context, reset bool) (pairing.Secret, error) {
	if b.Endpoint == "" {
		return "", fmt.Errorf("%w: this cluster does not say where others reach it: set pairing.endpoint in the chart's values", openstorage.ErrRequest)
	}
	if reset {
		if _, err := pairing.VoidOpen(ctx, b.Grants); err != nil {
			return "", err
		}
	}
	location, err := b.locationOf(ctx, "", b.Ring.Current().ClusterID())
	if err != nil {
		return "", err
	}
	if location != "" {
		location = b.Namespace + "/" + location
	}
	token, err := pairing.Mint(ctx, b.Grants, pairing.MintRequest{
		Scope: pairing.Scope{Admin: true}, BackupLocation: location, Endpoint: b.Endpoint, ClusterID: b.Ring.Current().ClusterID(), ClusterName: b.ClusterName,
		CAFingerprint: b.Ring.Current().Fingerprint(),
	}, b.Now(), b.Random)
	if err != nil {
		return "", err
	}
	line, err := token.Encode()
	return pairing.Secret(line), err
}
