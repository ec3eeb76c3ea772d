package kopiastore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/minio/minio-go/v7"
)

// class says what to do about an error of an object store.
type class int

const (
	// final errors come again however often one asks.
	final class = iota
	// passing errors are the network's, or a server's that is just failing.
	passing
	// throttled says that the store wants less.
	throttled
)

const (
	// patience is how long one request is repeated, from its first failure on.
	patience          = 5 * time.Minute
	throttledPatience = 20 * time.Minute
	shortestWait      = 200 * time.Millisecond
	longestWait       = 15 * time.Second
)

func classify(err error) class {
	var (
		answer      minio.ErrorResponse
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
	)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, blob.ErrBlobNotFound), errors.Is(err, blob.ErrInvalidRange),
		errors.Is(err, blob.ErrInvalidCredentials), errors.Is(err, fs.ErrInvalid):
		return final
	case errors.As(err, &certificate), errors.As(err, &authority):
		return final
	case errors.As(err, &answer):
		return classifyAnswer(answer)
	}
	return passing
}

func classifyAnswer(answer minio.ErrorResponse) class {
	switch answer.Code {
	case "SlowDown", "SlowDownRead", "SlowDownWrite", "TooManyRequests", "Throttling", "ThrottlingException", "RequestLimitExceeded", "BandwidthLimitExceeded":
		return throttled
	case "RequestTimeout", "InternalError", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch", "OperationAborted":
		// Bytes that changed on their way are sent again; if they change
		// always, the operator is told of it.
		return passing
	}
	switch code := answer.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		return throttled
	case code >= http.StatusInternalServerError && code != http.StatusNotImplemented, code == http.StatusRequestTimeout, code == 0:
		return passing
	}
	return final
}

// wait is how long to wait before the next try: at random, so that many who
// failed together do not come back together.
func (c class) wait(tries int) time.Duration {
	longest := min(longestWait, shortestWait<<min(tries, 10))
	if c == throttled {
		longest = min(2*longestWait, 5*longest)
	}
	return longest/2 + rand.N(longest/2) //nolint:gosec // no secret
}

// persist repeats what may succeed later.
func persist(ctx context.Context, what string, do func() error) error {
	var failing time.Time
	for tries := 1; ; tries++ {
		err := do()
		if err == nil {
			return nil
		}
		if failing.IsZero() {
			failing = time.Now()
		}
		kind, limit := classify(err), patience
		if kind == throttled {
			limit = throttledPatience
		}
		wait := kind.wait(tries - 1)
		if kind == final || ctx.Err() != nil {
			return err
		}
		if time.Since(failing)+wait > limit {
			return fmt.Errorf("%s, tried %d times: %w", what, tries, err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		case <-timer.C:
		}
	}
}
