package kopiastore

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/format"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	hashName       = "BLAKE3-256-128"
	encryptionName = "AES256-GCM-HMAC-SHA256"
	packSize       = 20 << 20

	// How kopia derives a key from the password. Its default, scrypt, makes a password that a
	// person thought of harder to guess, and takes 64 MiB and twice as long whenever a
	// repository is opened; a random one is guessed by nobody. This one meets FIPS 140.
	derivationName = "pbkdf2-sha256-600000"
	keyLength      = 32
)

// ensureInitialized makes the repository where there is none and create is
// set, and returns what kopia keeps of its format, which no other has.
//
// Two clusters may do so at once, and object stores differ in what they offer
// against that. So the keys come from the password and the place: whoever
// writes last writes a repository with the same keys, and nothing that either
// stored is lost. The password is as good a secret as the keys it always
// protected, since whoever has it reads them from the repository.
func (o *Opener) ensureInitialized(ctx context.Context, st blob.Storage, l snapshot.Location, create bool) ([]byte, error) {
	var found buffer
	err := st.GetBlob(ctx, format.KopiaRepositoryBlobID, 0, -1, &found)
	if err == nil {
		return found.Bytes(), readable(found.Bytes())
	}
	if !errors.Is(err, blob.ErrBlobNotFound) {
		return nil, fmt.Errorf("look for the repository: %w", err)
	}
	if !create {
		return nil, fmt.Errorf("%w: nothing was ever backed up there, or the prefix is another one", errNoRepository)
	}
	derived, err := o.derivations.take(ctx)
	if err != nil {
		return nil, err
	}
	defer derived()
	options, err := newOptions(l)
	if err != nil {
		return nil, err
	}
	err = repo.Initialize(ctx, unfinished{st}, options, l.Password.Reveal())
	if err != nil && !errors.Is(err, repo.ErrAlreadyInitialized) {
		return nil, fmt.Errorf("make the repository: %w", err)
	}
	return o.ensureInitialized(ctx, st, l, false)
}

// readable refuses what another program, or a newer one, put in the
// repository's place: kopia would say that the password is wrong.
func readable(formatBlob []byte) error {
	f, err := format.ParseKopiaRepositoryJSON(formatBlob)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errForeign, err)
	case f == nil || len(f.UniqueID) == 0:
		return fmt.Errorf("%w: it has no id", errForeign)
	case f.EncryptionAlgorithm != format.DefaultFormatEncryption:
		return fmt.Errorf("%w: its format is encrypted with %q", errForeign, f.EncryptionAlgorithm)
	case !slices.Contains(format.SupportedFormatBlobKeyDerivationAlgorithms(), f.KeyDerivationAlgorithm):
		return fmt.Errorf("%w: its key is derived by %q", errForeign, f.KeyDerivationAlgorithm)
	}
	return nil
}

// unfinished hides the second file of a repository whose making was cut
// short, or is under way elsewhere: kopia would call it damaged, and it is
// only to be written again.
type unfinished struct{ blob.Storage }

// GetBlob finds no configuration blob.
func (u unfinished) GetBlob(ctx context.Context, id blob.ID, offset, length int64, out blob.OutputBuffer) error {
	if id == format.KopiaBlobCfgBlobID {
		return blob.ErrBlobNotFound
	}
	return u.Storage.GetBlob(ctx, id, offset, length, out)
}

func newOptions(l snapshot.Location) (*repo.NewRepositoryOptions, error) {
	place := fmt.Sprintf("godwit repository %q %q", l.Bucket, l.Prefix)
	stretch := format.KopiaRepositoryJSON{KeyDerivationAlgorithm: derivationName, UniqueID: []byte(place)}
	secret, err := stretch.DeriveFormatEncryptionKeyFromPassword(l.Password.Reveal())
	if err != nil {
		return nil, fmt.Errorf("derive the repository's keys: %w", err)
	}
	keys := map[string][]byte{}
	for _, purpose := range []string{"id", "hash", "master"} {
		if keys[purpose], err = hkdf.Expand(sha256.New, secret, purpose, keyLength); err != nil {
			return nil, fmt.Errorf("derive the repository's keys: %w", err)
		}
	}
	mode, err := retention(l)
	if err != nil {
		return nil, err
	}
	return &repo.NewRepositoryOptions{
		UniqueID:        keys["id"],
		RetentionMode:   mode,
		RetentionPeriod: l.RetentionPeriod,

		FormatBlockKeyDerivationAlgorithm: derivationName,
		BlockFormat: format.ContentFormat{
			MutableParameters:    format.MutableParameters{Version: format.FormatVersion3, MaxPackSize: packSize, IndexVersion: 2},
			Hash:                 hashName,
			Encryption:           encryptionName,
			HMACSecret:           keys["hash"],
			MasterKey:            keys["master"],
			EnablePasswordChange: true,
		},
	}, nil
}
