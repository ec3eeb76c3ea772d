package driver

import (
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/godwit-io/godwit/test/csidriver/internal/disk"
	"github.com/godwit-io/godwit/test/csidriver/internal/store"
)

// defaultResults is how many extents a message has where the caller does not
// say; 1024 are some 20 KiB.
const defaultResults = 1024

type metadata struct {
	csi.UnimplementedSnapshotMetadataServer
	d *Driver
}

var _ csi.SnapshotMetadataServer = (*metadata)(nil)

func (m *metadata) GetMetadataAllocated(req *csi.GetMetadataAllocatedRequest, stream csi.SnapshotMetadata_GetMetadataAllocatedServer) error {
	if err := m.tracked(); err != nil {
		return err
	}
	s, err := m.snapshot(req.GetSnapshotId(), "snapshot id")
	if err != nil {
		return err
	}
	if err := checkRange(req.GetStartingOffset(), req.GetMaxResults(), s.Size); err != nil {
		return err
	}
	out := newBatch(req.GetMaxResults(), m.d.cfg.FixedBlocks, func(blocks []*csi.BlockMetadata) error {
		return stream.Send(&csi.GetMetadataAllocatedResponse{
			BlockMetadataType: m.lengths(), VolumeCapacityBytes: s.Size, BlockMetadata: blocks,
		})
	})
	if err := disk.Allocated(m.d.store.Image(store.Snapshots, s.ID), req.GetStartingOffset(), out.add); err != nil {
		return fmt.Errorf("allocated blocks of snapshot %s: %w", s.ID, err)
	}
	return out.flush()
}

func (m *metadata) GetMetadataDelta(req *csi.GetMetadataDeltaRequest, stream csi.SnapshotMetadata_GetMetadataDeltaServer) error {
	if err := m.tracked(); err != nil {
		return err
	}
	base, err := m.snapshot(req.GetBaseSnapshotId(), "base snapshot id")
	if err != nil {
		return err
	}
	target, err := m.snapshot(req.GetTargetSnapshotId(), "target snapshot id")
	if err != nil {
		return err
	}
	if err := m.checkPair(base, target); err != nil {
		return err
	}
	if err := checkRange(req.GetStartingOffset(), req.GetMaxResults(), target.Size); err != nil {
		return err
	}
	out := newBatch(req.GetMaxResults(), m.d.cfg.FixedBlocks, func(blocks []*csi.BlockMetadata) error {
		return stream.Send(&csi.GetMetadataDeltaResponse{
			BlockMetadataType: m.lengths(), VolumeCapacityBytes: target.Size, BlockMetadata: blocks,
		})
	})
	images := m.d.store
	if err := disk.Delta(images.Image(store.Snapshots, base.ID), images.Image(store.Snapshots, target.ID), req.GetStartingOffset(), out.add); err != nil {
		return fmt.Errorf("changed blocks from snapshot %s to %s: %w", base.ID, target.ID, err)
	}
	return out.flush()
}

func (m *metadata) lengths() csi.BlockMetadataType {
	if m.d.cfg.FixedBlocks > 0 {
		return csi.BlockMetadataType_FIXED_LENGTH
	}
	return csi.BlockMetadataType_VARIABLE_LENGTH
}

func (m *metadata) tracked() error {
	if m.d.cfg.Flavor.ChangedBlocks {
		return nil
	}
	return status.Error(codes.FailedPrecondition, "this storage does not track changed blocks: read all of the volume")
}

func (m *metadata) snapshot(id, field string) (store.Snapshot, error) {
	var s store.Snapshot
	if err := required(id, field); err != nil {
		return s, err
	}
	err := m.d.store.Read(id, &s)
	return s, err
}

func (m *metadata) checkPair(base, target store.Snapshot) error {
	var v store.Volume
	if err := m.d.store.Read(base.Volume, &v); ignoreNotFound(err) != nil {
		return err
	}
	lost, err := m.d.faults.baseLost(base.ID, v.ClaimNamespace)
	if err != nil {
		return err
	}
	if lost {
		return status.Errorf(codes.NotFound, "base snapshot %s: not found (told to be lost)", base.ID)
	}
	if base.Volume != target.Volume {
		return status.Errorf(codes.InvalidArgument, "snapshots %s and %s are of different volumes", base.ID, target.ID)
	}
	if base.Taken.After(target.Taken) {
		return status.Errorf(codes.InvalidArgument, "base snapshot %s is younger than %s", base.ID, target.ID)
	}
	return nil
}

func checkRange(offset int64, most int32, size int64) error {
	// The end itself is a valid offset: whoever resumes there has all.
	if offset < 0 || offset > size {
		return status.Errorf(codes.OutOfRange, "starting offset %d is outside of a volume of %d bytes", offset, size)
	}
	if most < 0 {
		return status.Errorf(codes.InvalidArgument, "max results %d", most)
	}
	return nil
}

// batch gathers extents into messages.
type batch struct {
	blocks []*csi.BlockMetadata
	most   int
	send   func([]*csi.BlockMetadata) error
	sent   bool
	// fixed cuts extents into blocks of that length; next is the first that was
	// not told yet.
	fixed, next int64
}

func newBatch(most int32, fixed int64, send func([]*csi.BlockMetadata) error) *batch {
	b := &batch{most: int(most), fixed: fixed, send: send}
	if b.most == 0 || b.most > defaultResults {
		b.most = defaultResults
	}
	return b
}

func (b *batch) add(e disk.Extent) error {
	if b.fixed == 0 {
		return b.addOne(e)
	}
	for at := max(b.next, e.Offset/b.fixed*b.fixed); at < e.End(); at += b.fixed {
		// The last block of a volume may reach over its end.
		if err := b.addOne(disk.Extent{Offset: at, Length: b.fixed}); err != nil {
			return err
		}
		b.next = at + b.fixed
	}
	return nil
}

func (b *batch) addOne(e disk.Extent) error {
	b.blocks = append(b.blocks, &csi.BlockMetadata{ByteOffset: e.Offset, SizeBytes: e.Length})
	if len(b.blocks) < b.most {
		return nil
	}
	return b.push()
}

func (b *batch) push() error {
	if err := b.send(b.blocks); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	b.blocks, b.sent = nil, true
	return nil
}

// flush sends the rest; a stream without extents still tells the capacity.
func (b *batch) flush() error {
	if len(b.blocks) == 0 && b.sent {
		return nil
	}
	return b.push()
}
