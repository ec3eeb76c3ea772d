package driver

import (
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
)

// The lies that a storage can tell about changed blocks.
const (
	lieOmit     = "omit"
	lieEmpty    = "empty"
	lieNothing  = "nothing"
	lieEarly    = "early"
	lieOverlap  = "overlap"
	lieDisorder = "disorder"
	lieBeyond   = "beyond"
	lieResize   = "resize"
	lieUneven   = "uneven"
)

func lies() []string {
	return []string{lieOmit, lieEmpty, lieNothing, lieEarly, lieOverlap, lieDisorder, lieBeyond, lieResize, lieUneven}
}

// lyingStream spoils what GetMetadataAllocated and GetMetadataDelta send.
type lyingStream struct {
	grpc.ServerStream
	lie  string
	sent int
}

func (l *lyingStream) SendMsg(m any) error {
	l.sent++
	if l.lie == lieNothing || l.lie == lieEarly && l.sent > 1 {
		return nil
	}
	switch r := m.(type) {
	case *csi.GetMetadataAllocatedResponse:
		l.spoil(&r.BlockMetadataType, &r.VolumeCapacityBytes, &r.BlockMetadata)
	case *csi.GetMetadataDeltaResponse:
		l.spoil(&r.BlockMetadataType, &r.VolumeCapacityBytes, &r.BlockMetadata)
	}
	return l.ServerStream.SendMsg(m)
}

func (l *lyingStream) spoil(kind *csi.BlockMetadataType, capacity *int64, blocks *[]*csi.BlockMetadata) {
	b := *blocks
	switch l.lie {
	case lieOmit:
		*blocks = b[:max(0, len(b)-1)]
	case lieEmpty:
		*blocks = nil
	case lieOverlap:
		if len(b) > 0 {
			*blocks = append(b, b[len(b)-1])
		}
	case lieDisorder:
		slices.Reverse(b)
	case lieBeyond:
		*blocks = append(b, &csi.BlockMetadata{ByteOffset: *capacity, SizeBytes: 4096})
	case lieResize:
		*capacity += int64(l.sent) * 4096
	case lieUneven:
		*kind = csi.BlockMetadataType_FIXED_LENGTH
	}
}
