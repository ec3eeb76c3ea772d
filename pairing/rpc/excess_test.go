package rpc_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/rpc"
	godwitv1 "github.com/godwit-io/godwit/proto/godwit/v1"
)

const byExcess = "A caller that takes more than its share"

// served is how many streams of one connection are served at once, and one more
// waits.
const served = 64

// impatient ends calls soon.
func impatient(c *rpc.Config) { c.CallLimit = 300 * time.Millisecond }

// watch opens a stream that its server does not end by itself.
func watch(ctx context.Context, conn grpc.ClientConnInterface) (healthv1.Health_WatchClient, error) {
	stream, err := healthv1.NewHealthClient(conn).Watch(ctx, &healthv1.HealthCheckRequest{})
	if err != nil {
		return nil, err
	}
	_, err = stream.Recv()
	return stream, err
}

func excessAttempts() []attempt {
	return []attempt{
		{byExcess, "headers of a megabyte", func(t *testing.T, c *target) error {
			conn := dial(t, c.join(t))
			if _, err := rpc.Check(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x", strings.Repeat("x", 1<<20))
			_, err := rpc.Check(ctx, conn)
			return err
		}, "", "header list size"},
		{byExcess, "more streams than are served", func(t *testing.T, c *target) error {
			conn := dial(t, c.join(t))
			for range served {
				if _, err := watch(t.Context(), conn); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := watch(ctx, conn)
			return err
		}, "", "DeadlineExceeded"},
		{byExcess, "a stream that is held open", func(t *testing.T, _ *target) error {
			stream, err := watch(t.Context(), dial(t, newTarget(t, "target-id", impatient).join(t)))
			if err != nil {
				t.Fatal(err)
			}
			_, err = stream.Recv()
			return err
		}, "", "DeadlineExceeded"},
		{byExcess, "a call without an end", func(t *testing.T, _ *target) error {
			slow := newTarget(t, "target-id", impatient, func(c *rpc.Config) {
				c.StorageCheck = func(ctx context.Context, _ pairing.Peer) error {
					<-ctx.Done()
					return context.Cause(ctx)
				}
			})
			answer, err := godwitv1.NewPairingServiceClient(dial(t, slow.join(t))).Check(t.Context(), &godwitv1.CheckRequest{})
			if err == nil && answer.GetStorageError() != "" {
				return errors.New(answer.GetStorageError())
			}
			return err
		}, "", "deadline exceeded"},
	}
}

// TestHeldStreamIsLogged: what was held open is told apart from what ended by itself.
func TestHeldStreamIsLogged(t *testing.T) {
	c := newTarget(t, "target-id", impatient)
	stream, err := watch(t.Context(), dial(t, c.join(t)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err == nil {
		t.Fatal("it is served for longer")
	}
	c.log.await(t, "held open for longer than 300ms")
}
