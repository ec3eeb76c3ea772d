package kopiastore

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/kopia/kopia/repo/format"
	"golang.org/x/sync/semaphore"
)

// derivations lets one key at a time be derived from a password. By scrypt, as stock kopia
// makes repositories, each takes 64 MiB and a core: a process that opens several at once
// would outgrow the memory that it is given.
type derivations struct {
	one *semaphore.Weighted
	// prepare is done before the first by scrypt: later there is more that it would have to
	// look through, and repositories stay open.
	prepare func()
}

func newDerivations() derivations {
	return derivations{semaphore.NewWeighted(1), sync.OnceFunc(roomForDerivation)}
}

// take waits for the others. What it returns may be called more than once.
func (d derivations) take(ctx context.Context) (free func(), err error) {
	if err := d.one.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait for other repositories' keys: %w", err)
	}
	return sync.OnceFunc(func() { d.one.Release(1) }), nil
}

// takeFor waits for the others, to derive the key of a repository that is there.
func (d derivations) takeFor(ctx context.Context, formatBlob []byte) (free func(), err error) {
	free, err = d.take(ctx)
	if f, bad := format.ParseKopiaRepositoryJSON(formatBlob); err == nil && bad == nil && strings.HasPrefix(f.KeyDerivationAlgorithm, "scrypt") {
		d.prepare()
	}
	return free, err
}
