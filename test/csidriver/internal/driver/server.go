package driver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/test/csidriver/internal/store"
)

// Serve answers on a unix socket until the context ends; calls under way are
// finished first. A socket that a killed process left is taken over.
func (d *Driver) Serve(ctx context.Context, endpoint string) error {
	lis, err := Listen(endpoint)
	if err != nil {
		return err
	}
	srv := grpc.NewServer(grpc.ChainUnaryInterceptor(d.logCall, d.spoilCall), grpc.ChainStreamInterceptor(d.logStream, d.spoilStream))
	csi.RegisterIdentityServer(srv, &identity{d: d})
	if d.cfg.Controller {
		csi.RegisterControllerServer(srv, &controller{d: d})
		csi.RegisterGroupControllerServer(srv, &groupController{d: d})
		csi.RegisterSnapshotMetadataServer(srv, &metadata{d: d})
	}
	if d.cfg.Node {
		csi.RegisterNodeServer(srv, &node{d: d})
	}
	d.log.Info("serving", "driver", d.cfg.Name, "endpoint", endpoint, "node", d.cfg.NodeID)
	return serveUntil(ctx, srv, lis)
}

// Listen opens a unix socket given as unix://PATH, unix:PATH or PATH.
func Listen(endpoint string) (net.Listener, error) {
	p := SocketPath(endpoint)
	if err := os.MkdirAll(filepath.Dir(p), 0o750); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	lis, err := net.Listen("unix", p)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", p, err)
	}
	return lis, nil
}

// SocketPath is the path in an endpoint.
func SocketPath(endpoint string) string {
	return strings.TrimPrefix(strings.TrimPrefix(endpoint, "unix:"), "//")
}

func serveUntil(ctx context.Context, srv *grpc.Server, lis net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(lis) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", lis.Addr(), err)
	case <-ctx.Done():
	}
	srv.GracefulStop()
	return nil
}

// logCall logs every call but the polls, and gives every error its code.
func (d *Driver) logCall(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	start := time.Now()
	resp, err := handler(ctx, req)
	err = withCode(err)
	d.logDone(info.FullMethod, idOf(req), start, err)
	return resp, err
}

func (d *Driver) logStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	start := time.Now()
	err := withCode(handler(srv, ss))
	d.logDone(info.FullMethod, "", start, err)
	return err
}

func (d *Driver) logDone(fullMethod, id string, start time.Time, err error) {
	method := path.Base(fullMethod)
	took := time.Since(start).Round(100 * time.Microsecond).String()
	switch {
	case err != nil:
		d.log.Error("call failed", "method", method, "id", id, "took", took, "err", err)
	case strings.Contains(method, "Get") || method == "Probe":
		d.log.Debug("call", "method", method, "id", id, "took", took)
	default:
		d.log.Info("call", "method", method, "id", id, "took", took)
	}
}

// idOf finds what a call is about, for the log.
func idOf(req any) string {
	switch r := req.(type) {
	case interface{ GetVolumeId() string }:
		return r.GetVolumeId()
	case interface{ GetSnapshotId() string }:
		return r.GetSnapshotId()
	case interface{ GetName() string }:
		return r.GetName()
	default:
		return ""
	}
}

// withCode keeps the code of an error that has one.
func withCode(err error) error {
	if err == nil {
		return nil
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.Error(codes.Aborted, err.Error())
	case errors.Is(err, os.ErrPermission):
		return status.Error(codes.PermissionDenied, err.Error())
	default:
		return status.Error(codes.Internal, err.Error())
	}
}

func ignoreNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
