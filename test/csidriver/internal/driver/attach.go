package driver

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/test/csidriver/internal/store"
)

func (c *controller) ControllerPublishVolume(ctx context.Context, req *csi.ControllerPublishVolumeRequest) (*csi.ControllerPublishVolumeResponse, error) {
	if err := cmp.Or(required(req.GetVolumeId(), "volume id"), required(req.GetNodeId(), "node id")); err != nil {
		return nil, err
	}
	if req.GetVolumeCapability() == nil {
		return nil, status.Error(codes.InvalidArgument, "the volume capability is missing")
	}
	if err := c.d.checkCapability(req.GetVolumeCapability()); err != nil {
		return nil, err
	}
	lock, err := c.d.store.LockVolume(ctx, req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	var v store.Volume
	if err := c.d.store.Read(req.GetVolumeId(), &v); err != nil {
		return nil, err
	}
	known, err := c.d.store.HasNode(req.GetNodeId())
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, status.Errorf(codes.NotFound, "node %q never ran this driver", req.GetNodeId())
	}
	want := store.Attachment{
		Node:     req.GetNodeId(),
		ReadOnly: req.GetReadonly() || onlyReads(req.GetVolumeCapability().GetAccessMode().GetMode()),
	}
	if slices.Contains(v.Attachments, want) {
		return &csi.ControllerPublishVolumeResponse{}, nil
	}
	if err := mayAttach(v, want); err != nil {
		return nil, err
	}
	v.Attachments = append(v.Attachments, want)
	return &csi.ControllerPublishVolumeResponse{}, c.d.store.Write(&v)
}

// mayAttach lets one node write, or any number read.
func mayAttach(v store.Volume, want store.Attachment) error {
	if v.Node != "" && v.Node != want.Node {
		return status.Errorf(codes.FailedPrecondition, "volume %s is on node %s and cannot be reached from %s", v.ID, v.Node, want.Node)
	}
	for _, a := range v.Attachments {
		if a.Node == want.Node {
			return status.Errorf(codes.AlreadyExists, "volume %s is attached to %s with read-only %t", v.ID, a.Node, a.ReadOnly)
		}
		if !a.ReadOnly || !want.ReadOnly {
			return status.Errorf(codes.FailedPrecondition, "volume %s is attached to %s: detach it there first", v.ID, a.Node)
		}
	}
	return nil
}

func (c *controller) ControllerUnpublishVolume(ctx context.Context, req *csi.ControllerUnpublishVolumeRequest) (*csi.ControllerUnpublishVolumeResponse, error) {
	if err := required(req.GetVolumeId(), "volume id"); err != nil {
		return nil, err
	}
	lock, err := c.d.store.LockVolume(ctx, req.GetVolumeId())
	if errors.Is(err, store.ErrNotFound) {
		return &csi.ControllerUnpublishVolumeResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	var v store.Volume
	if err := c.d.store.Read(req.GetVolumeId(), &v); err != nil {
		return &csi.ControllerUnpublishVolumeResponse{}, ignoreNotFound(err)
	}
	before := len(v.Attachments)
	v.Attachments = slices.DeleteFunc(v.Attachments, func(a store.Attachment) bool {
		return req.GetNodeId() == "" || a.Node == req.GetNodeId()
	})
	if len(v.Attachments) == before {
		return &csi.ControllerUnpublishVolumeResponse{}, nil
	}
	return &csi.ControllerUnpublishVolumeResponse{}, c.d.store.Write(&v)
}
