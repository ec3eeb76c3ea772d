package snapshottest

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
)

// testVerify changes single bytes of a device, in data and in zeros, and wants
// each named, nothing fetched, and all of it repaired by fetching just that.
func testVerify(t *testing.T, s snapshot.Store) {
	data := noise(5<<20+123, 21)
	clear(data[1<<20 : 3<<20])
	image, _ := mustBackup(t, scan(data, "v"), s)
	device := NewDevice(bytes.Clone(data))
	request := snapshot.VerifyRequest{Source: device, Image: image.ID, Volume: image.Volume}
	report, err := snapshot.Verify(t.Context(), request, s)
	if err != nil || report.Differing != 0 || report.Stats.Read != image.Size || report.Stats.Done != report.Stats.Total || report.Stats.Fetched != 0 {
		t.Fatalf("an equal volume: %+v, %v", report, err)
	}
	flipped := []int64{0, 2<<20 + 7, 4 << 20, image.Size - 1}
	for _, at := range flipped {
		device.data[at] ^= 0x10
	}
	for _, mode := range []snapshot.VerifyMode{snapshot.VerifyFull, snapshot.VerifySample} {
		request.Mode, request.Share = mode, 1
		report, err = snapshot.Verify(t.Context(), request, s)
		if !errors.Is(err, snapshot.ErrDiffers) || len(report.Mismatches) != len(flipped) || report.Differing != int64(len(flipped)) {
			t.Fatalf("%d flipped bytes: %+v, %v", len(flipped), report, err)
		}
	}
	for i, at := range flipped {
		m := report.Mismatches[i]
		if m.Chunk.Offset > at || m.Chunk.End() <= at || m.Volume != image.Volume {
			t.Errorf("the byte at %d is named as %s", at, m)
		}
	}
	if got := report.Mismatches[0].String(); !strings.Contains(err.Error(), got) || !strings.Contains(got, report.Mismatches[0].Chunk.ID) || !strings.Contains(got, image.Volume.String()) {
		t.Errorf("the error %q does not name %q", err, got)
	}
	request.Mode, request.Share = snapshot.VerifySample, 0.0001
	report, err = snapshot.Verify(t.Context(), request, s)
	if !errors.Is(err, snapshot.ErrDiffers) || report.Stats.Read < testChunk || report.Stats.Read > image.Size/2 {
		t.Errorf("a sample reads the first and the last chunk: %+v, %v", report, err)
	}
	testReconcile(t, s, device, image, data)
	for what, r := range map[string]snapshot.VerifyRequest{
		"smaller than the image":       {Source: NewDevice(data[:100]), Image: image.ID},
		"an image of volume":           {Source: device, Image: image.ID, Volume: testVolume("other")},
		"not between":                  {Source: device, Image: image.ID, Mode: snapshot.VerifySample, Share: 2},
		"only for what an apply wrote": {Source: device, Image: image.ID, Mode: snapshot.VerifyReadBack},
	} {
		if _, err := snapshot.Verify(t.Context(), r, s); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want %q: %v", what, err)
		}
	}
}

func testReconcile(t *testing.T, s snapshot.Store, device *Device, image snapshot.Image, want []byte) {
	t.Helper()
	request := snapshot.ReconcileRequest{Sink: device, To: image.ID, Verify: snapshot.VerifyFull}
	stats, err := snapshot.Reconcile(t.Context(), request, s)
	if err != nil || !bytes.Equal(device.Bytes(), want) {
		t.Fatalf("reconcile: %+v, %v", stats, err)
	}
	if stats.Changed > 4*testChunk || stats.Written > 3*testChunk || stats.Fetched == 0 || stats.Read != 2*image.Size || stats.Done != stats.Total {
		t.Errorf("reconciling four chunks: %+v", stats)
	}
	stats, err = snapshot.Reconcile(t.Context(), snapshot.ReconcileRequest{Sink: device, To: image.ID}, s)
	if err != nil || stats.Written+stats.Fetched+stats.Changed != 0 {
		t.Errorf("reconciling an equal volume: %+v, %v", stats, err)
	}
	longer := append(noise(len(want), 3), noise(300<<10, 4)...)
	larger := NewDevice(longer)
	if _, err := snapshot.Reconcile(t.Context(), snapshot.ReconcileRequest{Sink: larger, To: image.ID}, s); err != nil {
		t.Fatal(err)
	}
	if got := larger.Bytes(); !bytes.Equal(got[:len(want)], want) || !bytes.Equal(got[len(want):], make([]byte, 300<<10)) {
		t.Error("reconciling a larger volume of other content gave other bytes")
	}
}
