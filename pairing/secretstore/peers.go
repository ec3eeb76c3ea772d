package secretstore

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/pairing"
)

// Peers keeps peers in Secrets.
type Peers struct{ store *Store }

var _ pairing.PeerStore = (*Peers)(nil)

// peerRecord is the part of a peer that is no secret.
type peerRecord struct {
	PairID             string            `json:"pairID"`
	Direction          pairing.Direction `json:"direction"`
	ClusterID          string            `json:"clusterID"`
	ClusterName        string            `json:"clusterName,omitempty"`
	Endpoint           string            `json:"endpoint,omitempty"`
	Namespaces         []string          `json:"namespaces,omitempty"`
	Admin              bool              `json:"admin,omitempty"`
	Namespace          string            `json:"namespace,omitempty"`
	BackupLocation     string            `json:"backupLocation,omitempty"`
	Certificate        []byte            `json:"certificate,omitempty"`
	Authority          []byte            `json:"authority,omitempty"`
	SealingPublicKey   []byte            `json:"sealingPublicKey,omitempty"`
	FormerSealingKeys  [][]byte          `json:"formerSealingKeys,omitempty"`
	RepositoryPrefix   string            `json:"repositoryPrefix,omitempty"`
	Created            time.Time         `json:"created"`
	CertificateExpires time.Time         `json:"certificateExpires,omitzero"`
	Name               string            `json:"name,omitempty"`
	Asked              string            `json:"asked,omitempty"`
	Addresses          []string          `json:"addresses,omitempty"`
	KeyHash            []byte            `json:"keyHash,omitempty"`
	FormerKeyHash      []byte            `json:"formerKeyHash,omitempty"`
	Left               time.Time         `json:"left,omitzero"`
	Twin               string            `json:"twin,omitempty"`
}

// The secrets of a peer, by their keys in the Secret.
const (
	clientKey              = "clientKey"
	sealingKey             = "sealingKey"
	nextSealingKey         = "nextSealingKey"
	repositoryPassword     = "repositoryPassword"
	nextRepositoryPassword = "nextRepositoryPassword"
	epochSeed              = "epochSeed"
	returnToken            = "returnToken"
)

// sealedBefore holds digests, one after the other. They are no secret, and many.
const sealedBefore = "sealedBefore"

func peerName(d pairing.Direction, pairID string) string {
	return "godwit-peer-" + string(d) + "-" + pairID
}

// Get is pairing.PeerStore's.
func (p *Peers) Get(ctx context.Context, d pairing.Direction, pairID string) (pairing.Peer, error) {
	secret, err := p.store.get(ctx, peerName(d, pairID))
	if err != nil {
		return pairing.Peer{}, err
	}
	return peerFrom(secret)
}

// List is pairing.PeerStore's.
func (p *Peers) List(ctx context.Context, d pairing.Direction) ([]pairing.Peer, error) {
	secrets, err := p.store.list(ctx, client.MatchingLabels{KindLabel: KindPeer, DirectionLabel: string(d)})
	if err != nil {
		return nil, err
	}
	peers := make([]pairing.Peer, 0, len(secrets))
	for i := range secrets {
		peer, err := peerFrom(&secrets[i])
		if err != nil {
			return nil, err
		}
		peers = append(peers, peer)
	}
	return peers, nil
}

// Put is pairing.PeerStore's.
func (p *Peers) Put(ctx context.Context, peer pairing.Peer) (pairing.Peer, error) {
	body, err := encode(peerRecord{
		PairID: peer.PairID, Direction: peer.Direction, ClusterID: peer.ClusterID, ClusterName: peer.ClusterName,
		Endpoint: peer.Endpoint, Namespaces: peer.Scope.Namespaces, Admin: peer.Scope.Admin,
		Namespace: peer.Namespace, BackupLocation: peer.BackupLocation,
		Certificate: peer.Certificate, Authority: peer.Authority, SealingPublicKey: peer.SealingPublicKey,
		FormerSealingKeys: plainKeys(peer.FormerSealingKeys), RepositoryPrefix: peer.RepositoryPrefix,
		Created: peer.Created.UTC(), CertificateExpires: peer.CertificateExpires.UTC(),
		Name: peer.Name, Asked: peer.Asked, Addresses: peer.Addresses, KeyHash: bytesOf(peer.KeyHash), FormerKeyHash: bytesOf(peer.FormerKeyHash),
		Left: peer.Left.UTC(), Twin: peer.Twin,
	})
	if err != nil {
		return pairing.Peer{}, fmt.Errorf("peer of pair %s: %w", peer.PairID, err)
	}
	secret := p.store.secret(peerName(peer.Direction, peer.PairID), KindPeer, peer.Version)
	secret.Labels[DirectionLabel] = string(peer.Direction)
	secret.Data = map[string][]byte{recordKey: body}
	for key, value := range map[string]pairing.Secret{
		clientKey: peer.ClientKey, sealingKey: peer.SealingKey, repositoryPassword: peer.RepositoryPassword,
		nextSealingKey: peer.NextSealingKey, nextRepositoryPassword: peer.NextRepositoryPassword, epochSeed: peer.EpochSeed,
		returnToken: peer.Return,
	} {
		if value != "" {
			secret.Data[key] = []byte(value.Reveal())
		}
	}
	if len(peer.SealedBefore) > 0 {
		secret.Data[sealedBefore] = pairing.JoinDigests(peer.SealedBefore)
	}
	stored, err := p.store.put(ctx, secret)
	if err != nil {
		return pairing.Peer{}, err
	}
	return peerFrom(stored)
}

// Delete is pairing.PeerStore's.
func (p *Peers) Delete(ctx context.Context, d pairing.Direction, pairID string) error {
	return p.store.delete(ctx, peerName(d, pairID))
}

func peerFrom(secret *corev1.Secret) (pairing.Peer, error) {
	record, err := decode[peerRecord](secret)
	if err != nil {
		return pairing.Peer{}, err
	}
	before, err := pairing.SplitDigests(secret.Data[sealedBefore])
	if err != nil {
		return pairing.Peer{}, fmt.Errorf("secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	return pairing.Peer{
		PairID: record.PairID, Direction: record.Direction, ClusterID: record.ClusterID, ClusterName: record.ClusterName,
		Endpoint: record.Endpoint, Scope: pairing.Scope{Namespaces: record.Namespaces, Admin: record.Admin},
		Namespace: record.Namespace, BackupLocation: record.BackupLocation,
		ClientKey: pairing.Secret(secret.Data[clientKey]), Certificate: record.Certificate, Authority: record.Authority,
		SealingKey: pairing.Secret(secret.Data[sealingKey]), SealingPublicKey: record.SealingPublicKey,
		RepositoryPassword: pairing.Secret(secret.Data[repositoryPassword]), RepositoryPrefix: record.RepositoryPrefix,
		Created: record.Created, CertificateExpires: record.CertificateExpires, Version: secret.ResourceVersion,
		Name: record.Name, Asked: record.Asked, Addresses: record.Addresses, KeyHash: hashOf(record.KeyHash), FormerKeyHash: hashOf(record.FormerKeyHash),
		Left: record.Left, Twin: record.Twin, Return: pairing.Secret(secret.Data[returnToken]),
		NextSealingKey: pairing.Secret(secret.Data[nextSealingKey]), FormerSealingKeys: sealingKeys(record.FormerSealingKeys),
		SealedBefore: before, NextRepositoryPassword: pairing.Secret(secret.Data[nextRepositoryPassword]),
		EpochSeed: pairing.Secret(secret.Data[epochSeed]),
	}, nil
}

func plainKeys(keys []ed25519.PublicKey) [][]byte {
	var out [][]byte
	for _, k := range keys {
		out = append(out, k)
	}
	return out
}

func sealingKeys(raw [][]byte) []ed25519.PublicKey {
	var out []ed25519.PublicKey
	for _, k := range raw {
		out = append(out, k)
	}
	return out
}

func bytesOf(h pairing.KeyHash) []byte {
	if h == (pairing.KeyHash{}) {
		return nil
	}
	return h[:]
}

// hashOf gives a hash that no key has where the record has none.
func hashOf(raw []byte) pairing.KeyHash {
	var h pairing.KeyHash
	copy(h[:], raw)
	return h
}
