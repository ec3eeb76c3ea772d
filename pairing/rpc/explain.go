package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/pairing"
)

// deadline sees that no call waits for ever.
func deadline(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	return invoke(ctx, method, req, reply, conn, opts...)
}

// explainer turns what grpc says into what a person can act on.
type explainer struct {
	endpoint string
	// certificate is ours, or nil.
	certificate *tls.Certificate
	seen        *verdict
	now         func() time.Time
}

func (e explainer) explain(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	err := invoke(ctx, method, req, reply, conn, opts...)
	if err == nil || ctx.Err() == context.Canceled {
		return err
	}
	if known := fromWire(err); known != err { //nolint:errorlint // whether it is the same value is the question
		return known
	}
	switch code := status.Code(err); {
	case code == codes.Unavailable,
		code == codes.DeadlineExceeded && conn.GetState() != connectivity.Ready:
		return e.unreachable(status.Convert(err).Message())
	default:
		return err
	}
}

func (e explainer) unreachable(cause string) error {
	if refused := e.seen.last(); refused != nil {
		return fmt.Errorf("%s: %w: check the address; if the target was installed anew, pair again with a new token",
			e.endpoint, refused)
	}
	// A server that does not take our certificate closes the connection, and its
	// TLS alert may be lost with it; our own clock tells the commonest reason.
	if e.certificate != nil && e.now().After(e.certificate.Leaf.NotAfter) {
		return fmt.Errorf("%s: %w: this pair's certificate expired at %s: pair again with a new token",
			e.endpoint, pairing.ErrCertificate, e.certificate.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	for _, noise := range []string{
		"connection error: desc = ", "last connection error: ", `"transport: Error while dialing: `,
		"error reading server preface: ", "transport: ",
	} {
		cause = strings.ReplaceAll(cause, noise, "")
	}
	cause = strings.Trim(strings.TrimSpace(cause), `"`)
	if strings.Contains(cause, "remote error: tls") {
		return fmt.Errorf("%s: %w: the target does not accept this pair's (%s): pair again with a new token",
			e.endpoint, pairing.ErrCertificate, cause)
	}
	return &unreachableError{endpoint: e.endpoint, cause: cause}
}

// unreachableError says where no answer came from.
type unreachableError struct{ endpoint, cause string }

// Error says what to look at.
func (e *unreachableError) Error() string {
	return fmt.Sprintf("cannot reach %s (%s): check that the target cluster runs, that its pairing service is exposed there, "+
		"and that no firewall is between", e.endpoint, e.cause)
}

// Is makes it a pairing.ErrUnreachable.
func (e *unreachableError) Is(target error) bool { return target == pairing.ErrUnreachable }
