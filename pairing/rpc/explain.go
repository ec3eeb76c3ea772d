package rpc

import (
	"context"
	"fmt"
	"strings"

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

// explain turns what grpc says into what a person can act on.
func explain(endpoint string, seen *verdict) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
		invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		err := invoke(ctx, method, req, reply, conn, opts...)
		if err == nil || ctx.Err() == context.Canceled { //nolint:errorlint // the context's own, never wrapped
			return err
		}
		if known := fromWire(err); known != err { //nolint:errorlint // whether it is the same value is the question
			return known
		}
		switch code := status.Code(err); {
		case code == codes.Unavailable,
			code == codes.DeadlineExceeded && conn.GetState() != connectivity.Ready:
			return unreachable(endpoint, status.Convert(err).Message(), seen.last())
		default:
			return err
		}
	}
}

func unreachable(endpoint, cause string, refused error) error {
	if refused != nil {
		return fmt.Errorf("%s is not the target that was paired: %w: check the address; "+
			"if the target was installed anew, pair again with a new token", endpoint, refused)
	}
	cause = strings.TrimSpace(cause)
	for _, noise := range []string{
		"connection error: desc = ", "last connection error: ", `"transport: Error while dialing: `,
		"error reading server preface: ",
	} {
		cause = strings.ReplaceAll(cause, noise, "")
	}
	cause = strings.Trim(cause, `"`)
	// The server tells by a TLS alert that it does not take our certificate.
	if strings.Contains(cause, "remote error: tls") {
		return fmt.Errorf("%s does not accept this pair's certificate (%s): %w: pair again with a new token",
			endpoint, cause, pairing.ErrCertificate)
	}
	return &unreachableError{endpoint: endpoint, cause: cause}
}

// unreachableError says where no answer came from.
type unreachableError struct{ endpoint, cause string }

// Error says what to look at.
func (e *unreachableError) Error() string {
	return fmt.Sprintf("cannot reach %s (%s): check that the target cluster runs, that its pairing service is exposed there, "+
		"and that no firewall is between", e.endpoint, e.cause)
}

// Is makes it a pairing.ErrUnreachable.
func (e *unreachableError) Is(target error) bool { return target == pairing.ErrUnreachable } //nolint:errorlint // Is itself
