package secretstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/pairing"
)

// Grants keeps grants in Secrets.
type Grants struct{ store *Store }

var _ pairing.GrantStore = (*Grants)(nil)

// grantRecord is a grant as it is kept; nothing in it is secret.
type grantRecord struct {
	ID             string     `json:"id"`
	SecretHash     string     `json:"secretHash"`
	Namespaces     []string   `json:"namespaces,omitempty"`
	Admin          bool       `json:"admin,omitempty"`
	BackupLocation string     `json:"backupLocation,omitempty"`
	Bidirectional  bool       `json:"bidirectional,omitempty"`
	Created        time.Time  `json:"created"`
	Expires        time.Time  `json:"expires"`
	Use            *useRecord `json:"use,omitempty"`
}

type useRecord struct {
	PairID      string    `json:"pairID"`
	ClusterID   string    `json:"clusterID"`
	ClusterName string    `json:"clusterName,omitempty"`
	Namespace   string    `json:"namespace"`
	KeyHash     string    `json:"keyHash"`
	Time        time.Time `json:"time"`
	Settled     bool      `json:"settled,omitempty"`
}

func grantName(id string) string { return "godwit-grant-" + id }

// Get is pairing.GrantStore's.
func (g *Grants) Get(ctx context.Context, id string) (pairing.Grant, error) {
	secret, err := g.store.get(ctx, grantName(id))
	if err != nil {
		return pairing.Grant{}, err
	}
	return grantFrom(secret)
}

// List is pairing.GrantStore's.
func (g *Grants) List(ctx context.Context) ([]pairing.Grant, error) {
	secrets, err := g.store.list(ctx, client.MatchingLabels{KindLabel: KindGrant})
	if err != nil {
		return nil, err
	}
	grants := make([]pairing.Grant, 0, len(secrets))
	for i := range secrets {
		grant, err := grantFrom(&secrets[i])
		if err != nil {
			return nil, err
		}
		grants = append(grants, grant)
	}
	return grants, nil
}

// Put is pairing.GrantStore's.
func (g *Grants) Put(ctx context.Context, grant pairing.Grant) (pairing.Grant, error) {
	record := grantRecord{
		ID: grant.ID, SecretHash: hex.EncodeToString(grant.SecretHash[:]),
		Namespaces: grant.Scope.Namespaces, Admin: grant.Scope.Admin,
		BackupLocation: grant.BackupLocation, Bidirectional: grant.Bidirectional, Created: grant.Created.UTC(), Expires: grant.Expires.UTC(),
	}
	if use := grant.Use; use != nil {
		record.Use = &useRecord{
			PairID: use.PairID, ClusterID: use.ClusterID, ClusterName: use.ClusterName, Namespace: use.Namespace,
			KeyHash: hex.EncodeToString(use.KeyHash[:]), Time: use.Time.UTC(), Settled: use.Settled,
		}
	}
	body, err := encode(record)
	if err != nil {
		return pairing.Grant{}, fmt.Errorf("grant %s: %w", grant.ID, err)
	}
	secret := g.store.secret(grantName(grant.ID), KindGrant, grant.Version)
	secret.Data = map[string][]byte{recordKey: body}
	stored, err := g.store.put(ctx, secret)
	if err != nil {
		return pairing.Grant{}, err
	}
	return grantFrom(stored)
}

// Delete is pairing.GrantStore's.
func (g *Grants) Delete(ctx context.Context, id string) error {
	return g.store.delete(ctx, grantName(id))
}

func grantFrom(secret *corev1.Secret) (pairing.Grant, error) {
	record, err := decode[grantRecord](secret)
	if err != nil {
		return pairing.Grant{}, err
	}
	grant := pairing.Grant{
		ID: record.ID, Scope: pairing.Scope{Namespaces: record.Namespaces, Admin: record.Admin},
		BackupLocation: record.BackupLocation, Bidirectional: record.Bidirectional, Created: record.Created, Expires: record.Expires,
		Version: secret.ResourceVersion,
	}
	if grant.SecretHash, err = hashFrom(secret, record.SecretHash); err != nil {
		return pairing.Grant{}, err
	}
	if use := record.Use; use != nil {
		grant.Use = &pairing.Use{
			PairID: use.PairID, ClusterID: use.ClusterID, ClusterName: use.ClusterName,
			Namespace: use.Namespace, Time: use.Time, Settled: use.Settled,
		}
		if grant.Use.KeyHash, err = hashFrom(secret, use.KeyHash); err != nil {
			return pairing.Grant{}, err
		}
	}
	return grant, nil
}

func hashFrom(secret *corev1.Secret, text string) (hash [sha256.Size]byte, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(hash) {
		return hash, fmt.Errorf("secret %s/%s: a hash in it is not readable: delete it and make a new token",
			secret.Namespace, secret.Name)
	}
	copy(hash[:], raw)
	return hash, nil
}
