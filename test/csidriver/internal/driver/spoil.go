package driver

import (
	"context"
	"path"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"

	"github.com/godwit-io/godwit/test/csidriver/internal/store"
)

// claimNamespace is the parameter by which a provisioner that is told to tells
// the namespace of the claim.
const claimNamespace = "csi.storage.k8s.io/pvc/namespace"

// namespaceOf is that of the claim whose volume a request is about; empty where
// nobody told it, or where the volume is gone.
func (d *Driver) namespaceOf(req any) (string, error) {
	if r, ok := req.(*csi.CreateVolumeRequest); ok {
		return r.GetParameters()[claimNamespace], nil
	}
	id := volumeIn(req)
	if snapshot := snapshotIn(req); id == "" && snapshot != "" {
		var s store.Snapshot
		if err := d.store.Read(snapshot, &s); err != nil {
			return "", ignoreNotFound(err)
		}
		id = s.Volume
	}
	if id == "" {
		return "", nil
	}
	var v store.Volume
	err := d.store.Read(id, &v)
	return v.ClaimNamespace, ignoreNotFound(err)
}

// volumeIn is the volume that a request names.
func volumeIn(req any) string {
	switch r := req.(type) {
	case interface{ GetVolumeId() string }:
		return r.GetVolumeId()
	case interface{ GetSourceVolumeId() string }:
		return r.GetSourceVolumeId()
	}
	return ""
}

// snapshotIn is the snapshot that a request names.
func snapshotIn(req any) string {
	switch r := req.(type) {
	case interface{ GetSnapshotId() string }:
		return r.GetSnapshotId()
	case interface{ GetTargetSnapshotId() string }:
		return r.GetTargetSnapshotId()
	}
	return ""
}

// meets finds the faults that a call meets.
func (d *Driver) meets(method string, req any) ([]struck, error) {
	namespace, err := d.namespaceOf(req)
	if err != nil {
		return nil, err
	}
	return d.faults.strike(method, namespace)
}

func (d *Driver) spoilCall(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	hit, err := d.meets(path.Base(info.FullMethod), req)
	if err != nil {
		return nil, err
	}
	if err := before(ctx, hit); err != nil {
		return nil, err
	}
	resp, err := handler(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := after(hit); err != nil {
		return nil, err
	}
	return resp, nil
}

func (d *Driver) spoilStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	s := &spoiledStream{ServerStream: ss, out: ss, d: d, method: path.Base(info.FullMethod)}
	if err := handler(srv, s); err != nil {
		return err
	}
	return after(s.hit)
}

// spoiledStream meets its faults once the request is there: they may depend on
// what it is about.
type spoiledStream struct {
	grpc.ServerStream
	// out is the stream as it is spoiled.
	out    grpc.ServerStream
	d      *Driver
	method string
	hit    []struck
}

func (s *spoiledStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	var err error
	if s.hit, err = s.d.meets(s.method, m); err != nil {
		return err
	}
	if err := before(s.Context(), s.hit); err != nil {
		return err
	}
	for _, h := range s.hit {
		if h.cut >= 0 && (h.from == 0 || h.hits(h.call)) {
			s.out = &cutStream{ServerStream: s.out, left: h.cut, err: h.err()}
		}
		if h.lie != "" && (h.from == 0 || h.hits(h.call)) {
			s.out = &lyingStream{ServerStream: s.out, lie: h.lie}
		}
	}
	return nil
}

func (s *spoiledStream) SendMsg(m any) error { return s.out.SendMsg(m) }

// cutStream ends a stream early.
type cutStream struct {
	grpc.ServerStream
	left int
	err  error
}

func (c *cutStream) SendMsg(m any) error {
	if c.left == 0 {
		return c.err
	}
	c.left--
	return c.ServerStream.SendMsg(m)
}
