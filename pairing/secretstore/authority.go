package secretstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/godwit-io/godwit/pairing"
)

// The parts of the authorities' Secret.
const (
	authorityName        = "godwit-authority"
	authorityCertificate = "certificate"
	authorityKey         = "key"
	authorityRetired     = "retired"
)

// retiredRecord is an authority that was replaced, keys and all.
type retiredRecord struct {
	Certificate []byte    `json:"certificate"`
	Key         []byte    `json:"key"`
	Until       time.Time `json:"until"`
}

// Ring reads the cluster's authorities; pairing.ErrNotFound where there are none yet.
func (s *Store) Ring(ctx context.Context) (*pairing.Ring, error) {
	ring, _, err := s.ring(ctx)
	return ring, err
}

func (s *Store) ring(ctx context.Context) (*pairing.Ring, *corev1.Secret, error) {
	secret, err := s.get(ctx, authorityName)
	if err != nil {
		return nil, nil, fmt.Errorf("read pairing authority: %w", err)
	}
	current, err := pairing.ParseAuthority(secret.Data[authorityCertificate], pairing.Secret(secret.Data[authorityKey]))
	if err != nil {
		return nil, nil, fmt.Errorf("secret %s/%s: %w", s.namespace, authorityName, err)
	}
	var records []retiredRecord
	if raw := secret.Data[authorityRetired]; len(raw) > 0 && json.Unmarshal(raw, &records) != nil {
		// The parser's words may quote keys.
		return nil, nil, fmt.Errorf("secret %s/%s: its %q is not readable: delete that key", s.namespace, authorityName, authorityRetired)
	}
	retired := make([]pairing.Retired, 0, len(records))
	for _, r := range records {
		a, err := pairing.ParseAuthority(r.Certificate, pairing.Secret(r.Key))
		if err != nil {
			return nil, nil, fmt.Errorf("secret %s/%s: %s: %w", s.namespace, authorityName, authorityRetired, err)
		}
		retired = append(retired, pairing.Retired{Authority: a, Until: r.Until})
	}
	return pairing.NewRing(current, retired...), secret, nil
}

// EnsureRing reads the cluster's authorities and makes one where there is none.
// An authority of another cluster, as a restored backup would bring, is
// refused: pairs made by it would take this cluster for that one.
func (s *Store) EnsureRing(ctx context.Context, clusterID string, now time.Time) (*pairing.Ring, error) {
	ring, err := s.Ring(ctx)
	if errors.Is(err, pairing.ErrNotFound) {
		ring, err = s.createAuthority(ctx, clusterID, now)
	}
	if err != nil {
		return nil, err
	}
	if id := ring.Current().ClusterID(); id != clusterID {
		return nil, fmt.Errorf("secret %s/%s holds the pairing authority of cluster %s, and this is cluster %s: "+
			"delete the secret and pair anew", s.namespace, authorityName, id, clusterID)
	}
	return ring, nil
}

func (s *Store) createAuthority(ctx context.Context, clusterID string, now time.Time) (*pairing.Ring, error) {
	authority, err := pairing.NewAuthority(clusterID, now)
	if err != nil {
		return nil, err
	}
	ring := pairing.NewRing(authority)
	err = s.putRing(ctx, s.secret(authorityName, KindAuthority, ""), ring, now)
	if errors.Is(err, pairing.ErrConflict) {
		// Another process was faster; its authority is the one.
		return s.Ring(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("store pairing authority: %w", err)
	}
	return ring, nil
}

// RotateAuthority replaces the cluster's authority by a new one. The old one is
// honoured for overlap, or for pairing.DefaultOverlap where that is zero.
func (s *Store) RotateAuthority(ctx context.Context, now time.Time, overlap time.Duration) (*pairing.Ring, error) {
	ring, secret, err := s.ring(ctx)
	if err != nil {
		return nil, err
	}
	next, err := pairing.NewAuthority(ring.Current().ClusterID(), now)
	if err != nil {
		return nil, err
	}
	rotated, err := ring.Rotated(next, now, overlap)
	if err != nil {
		return nil, err
	}
	if err := s.putRing(ctx, secret, rotated, now); err != nil {
		return nil, fmt.Errorf("store pairing authority: %w", err)
	}
	return rotated, nil
}

func (s *Store) putRing(ctx context.Context, secret *corev1.Secret, ring *pairing.Ring, now time.Time) error {
	key, err := ring.Current().Key()
	if err != nil {
		return err
	}
	records := []retiredRecord{}
	for _, r := range ring.Retired(now) {
		retiredKey, err := r.Key()
		if err != nil {
			return err
		}
		records = append(records, retiredRecord{Certificate: r.Certificate(), Key: []byte(retiredKey.Reveal()), Until: r.Until.UTC()})
	}
	retired, err := encode(records)
	if err != nil {
		return err
	}
	secret.Data = map[string][]byte{
		authorityCertificate: ring.Current().Certificate(), authorityKey: []byte(key.Reveal()), authorityRetired: retired,
	}
	_, err = s.put(ctx, secret)
	return err
}
