package pairing

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// SharedRepository is a repository that a source has with one target already, and lets
// another one use as well: what both are sent is stored once. Whoever has it reads all
// that is in it. The pairs share the sealing key too, which stays with the source.
type SharedRepository struct {
	Prefix    string
	Password  Secret
	EpochSeed Secret
}

// RepositoryID names the pair that the repository was made for: its own, unless the
// repository is shared.
func (p Peer) RepositoryID() string {
	id, ok := repositoryID(p.RepositoryPrefix)
	if !ok {
		return p.PairID
	}
	return id
}

func repositoryID(prefix string) (string, bool) {
	id, ok := strings.CutPrefix(prefix, "godwit/")
	id, whole := strings.CutSuffix(id, "/")
	return id, ok && whole && prefixOf(id) == prefix && checkID("repository", id) == nil
}

// share gives a new peer the repository of the pair that its ClusterPair names.
func (j *Joiner) share(ctx context.Context, peer Peer, with string) (Peer, error) {
	refuse := func(why string) error {
		return fmt.Errorf("%w: the repository of pair %s cannot be shared: %s", ErrRequest, with, why)
	}
	owner, err := j.Peers.Get(ctx, Outgoing, with)
	if errors.Is(err, ErrNotFound) {
		return Peer{}, refuse("there is no such pair from this cluster")
	}
	if err != nil {
		return Peer{}, fmt.Errorf("read pair %s: %w", with, err)
	}
	switch {
	case !owner.Joined():
		return Peer{}, refuse("its token is not redeemed yet")
	case owner.Namespace != peer.Namespace:
		return Peer{}, refuse("it belongs to namespace " + owner.Namespace)
	case owner.ClusterID == peer.ClusterID:
		return Peer{}, refuse("it leads to the same cluster")
	case !owner.MakesRepository():
		return Peer{}, refuse("it uses that of another pair itself: name that one")
	case owner.NextRepositoryPassword != "" || owner.NextSealingKey != "":
		return Peer{}, refuse("its password or its sealing key is just being replaced: try again when that is done")
	}
	seed, err := owner.epochSeed()
	if err != nil {
		return Peer{}, err
	}
	peer.RepositoryPrefix, peer.RepositoryPassword, peer.EpochSeed = owner.RepositoryPrefix, owner.RepositoryPassword, seed
	peer.SealingKey, peer.SealingPublicKey = owner.SealingKey, owner.sealingPublic()
	return peer, nil
}

// shared is what a peer that was made by share tells its target; nil for others.
func (p Peer) shared() *SharedRepository {
	if p.RepositoryPrefix == "" {
		return nil
	}
	return &SharedRepository{Prefix: p.RepositoryPrefix, Password: p.RepositoryPassword, EpochSeed: p.EpochSeed}
}

// validate refuses what no source of ours sends for the pair.
func (s *SharedRepository) validate(pairID string) error {
	if s == nil {
		return nil
	}
	id, ok := repositoryID(s.Prefix)
	password, err := base64.RawURLEncoding.DecodeString(s.Password.Reveal())
	if !ok || id == pairID || err != nil || len(password) != secretSize || len(s.EpochSeed) != ed25519.SeedSize {
		return fmt.Errorf("%w: the repository that is to be shared is none", ErrRequest)
	}
	return nil
}

// Sharers lists the other pairs from this cluster that use p's repository.
func Sharers(ctx context.Context, peers PeerStore, p Peer) ([]Peer, error) {
	all, err := peers.List(ctx, Outgoing)
	if err != nil {
		return nil, fmt.Errorf("list pairs: %w", err)
	}
	var others []Peer
	for _, other := range all {
		if other.PairID != p.PairID && other.RepositoryPrefix != "" && other.RepositoryPrefix == p.RepositoryPrefix {
			others = append(others, other)
		}
	}
	return others, nil
}

// replaceable refuses to replace what several pairs share: each target would have to be
// told, and one that does not answer would keep the others from the new one.
func replaceable(ctx context.Context, peers PeerStore, p Peer, what string) error {
	others, err := Sharers(ctx, peers, p)
	if err != nil || len(others) == 0 {
		return err
	}
	names := make([]string, 0, len(others))
	for _, other := range others {
		names = append(names, other.Namespace+"/"+other.Name)
	}
	return fmt.Errorf("pair %s: %w: its %s is that of ClusterPairs %s too: delete those, replace it, and pair them again", p.PairID, ErrRequest, what, strings.Join(names, ", "))
}
