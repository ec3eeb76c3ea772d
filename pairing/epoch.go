package pairing

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// EpochKey signs who activated an application, in the pair's repository. Either
// side may activate, so both have the key: it comes from the repository's first
// password, and whoever had that can read and write all of the repository anyway.
func (p Peer) EpochKey() (ed25519.PrivateKey, error) {
	seed, err := p.epochSeed()
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed([]byte(seed.Reveal())), nil
}

func (p Peer) epochSeed() (Secret, error) {
	if len(p.EpochSeed) == ed25519.SeedSize {
		return p.EpochSeed, nil
	}
	if p.RepositoryPassword == "" {
		return "", fmt.Errorf("pair %s: this side holds no password of the repository", p.PairID)
	}
	seed, err := hkdf.Key(sha256.New, []byte(p.RepositoryPassword.Reveal()), nil, "godwit epochs", ed25519.SeedSize)
	if err != nil {
		return "", fmt.Errorf("pair %s: derive the key of epochs: %w", p.PairID, err)
	}
	return Secret(seed), nil
}

// EpochPublicKey checks what EpochKey signed.
func (p Peer) EpochPublicKey() (ed25519.PublicKey, error) {
	key, err := p.EpochKey()
	if err != nil {
		return nil, err
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("pair %s: the key of epochs is no Ed25519 key", p.PairID)
	}
	return public, nil
}
