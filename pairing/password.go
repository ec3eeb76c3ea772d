package pairing

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
)

// A repository's password is replaced by the source of the pair that made the
// repository, in steps each of which may be taken again: the new one is stored
// (NextPassword), the repository takes both, the target is told
// (Exchange.ReplacePassword), the repository takes it for its own, this side turns to
// it (TurnToNextPassword), the repository takes the old one no more, and the end is
// noted (PasswordReplaced). Whoever has either password is served until the last but one.

func newPassword(random io.Reader) (Secret, error) {
	password := make([]byte, secretSize)
	if _, err := io.ReadFull(random, password); err != nil {
		return "", fmt.Errorf("make repository password: %w", err)
	}
	return Secret(base64.RawURLEncoding.EncodeToString(password)), nil
}

// NextPassword stores the password that is to take the place of the present one, and
// gives the one of a replacement that has begun.
func NextPassword(ctx context.Context, peers PeerStore, p Peer, random io.Reader) (Peer, error) {
	if p.NextRepositoryPassword != "" {
		return p, nil
	}
	if err := replaceable(ctx, peers, p, "password"); err != nil {
		return Peer{}, err
	}
	if !p.MakesRepository() {
		return Peer{}, fmt.Errorf("pair %s: %w: its repository was made for another pair: replace the password at that one, which is the other direction (on cluster %s), or pair again",
			p.PairID, ErrRequest, p.ClusterName)
	}
	next, err := newPassword(random)
	if err != nil {
		return Peer{}, err
	}
	p.NextRepositoryPassword = next
	if p, err = peers.Put(ctx, p); err != nil {
		return Peer{}, fmt.Errorf("store the next password of pair %s: %w", p.PairID, err)
	}
	return p, nil
}

// TurnToNextPassword has this side use the new password, in both directions.
func TurnToNextPassword(ctx context.Context, peers PeerStore, p Peer) (Peer, error) {
	if p.NextRepositoryPassword == "" {
		return p, nil
	}
	p, err := turn(ctx, peers, p, p.NextRepositoryPassword)
	if err != nil {
		return Peer{}, err
	}
	return p, FollowTwin(ctx, peers, p)
}

// PasswordReplaced notes the end of a replacement.
func PasswordReplaced(ctx context.Context, peers PeerStore, p Peer) (Peer, error) {
	p.NextRepositoryPassword = ""
	p, err := peers.Put(ctx, p)
	if err != nil {
		return Peer{}, fmt.Errorf("note the new password of pair %s: %w", p.PairID, err)
	}
	return p, nil
}

// turn stores another password, and what the first one was good for beside.
func turn(ctx context.Context, peers PeerStore, p Peer, password Secret) (Peer, error) {
	if p.RepositoryPassword == password {
		return p, nil
	}
	seed, err := p.epochSeed()
	if err != nil {
		return Peer{}, err
	}
	p.EpochSeed, p.RepositoryPassword = seed, password
	stored, err := peers.Put(ctx, p)
	if err != nil {
		return Peer{}, fmt.Errorf("store the new password of pair %s: %w", p.PairID, err)
	}
	return stored, nil
}

// FollowTwin gives the pair of the other direction, which shares p's repository, the
// password that p has.
func FollowTwin(ctx context.Context, peers PeerStore, p Peer) error {
	twin, err := TwinOf(ctx, peers, p)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if twin.RepositoryPrefix != p.RepositoryPrefix || twin.ClusterID != p.ClusterID || twin.RepositoryPassword == p.RepositoryPassword && twin.EpochSeed == p.EpochSeed {
		return nil
	}
	twin.RepositoryPassword, twin.EpochSeed = p.RepositoryPassword, p.EpochSeed
	if _, err := peers.Put(ctx, twin); err != nil {
		return fmt.Errorf("store the new password of pair %s: %w", twin.PairID, err)
	}
	return nil
}

// ReplacePassword has the target use a new password of the pair's repository, in both
// directions, once check says that it opens it.
func (i *Issuer) ReplacePassword(ctx context.Context, p Peer, password Secret, check func(context.Context, Peer) error) error {
	if !p.MakesRepository() {
		return fmt.Errorf("pair %s: %w: its repository is that of the other direction", p.PairID, ErrRequest)
	}
	if raw, err := base64.RawURLEncoding.DecodeString(password.Reveal()); err != nil || len(raw) != secretSize {
		return fmt.Errorf("pair %s: %w: the new password is none", p.PairID, ErrRequest)
	}
	changed := p
	changed.RepositoryPassword = password
	if err := check(ctx, changed); err != nil {
		return fmt.Errorf("pair %s: the target cannot open the repository by the new password: %w", p.PairID, err)
	}
	p, err := turn(ctx, i.Peers, p, password)
	if err != nil {
		return err
	}
	return FollowTwin(ctx, i.Peers, p)
}
