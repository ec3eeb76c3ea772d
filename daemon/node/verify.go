package node

import (
	"context"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
)

// verifyMode is the engine's word for it. Each chunk is checked against its hash as
// it is fetched in all of them.
func verifyMode(m api.VerifyMode) snapshot.VerifyMode {
	switch m {
	case api.VerifySealed:
		return snapshot.VerifyNone
	case api.VerifySample:
		return snapshot.VerifySample
	case api.VerifyFull:
		return snapshot.VerifyFull
	}
	return snapshot.VerifyReadBack
}

// verifyTree reads files again. All of a tree is made at each round, and its files compared
// or written, so that what was written is all of it.
func (a *attempt) verifyTree(ctx context.Context, image snapshot.ImageID, dir string, stats *snapshot.Stats) error {
	share := 1.0
	switch a.transfer.Spec.Verify {
	case "", api.VerifySealed:
		return nil
	case api.VerifySample:
		share = snapshot.SampleShare
	}
	read, err := a.repository.VerifyTree(ctx, image, dir, share, nil)
	stats.Read += read.Read
	return err
}
