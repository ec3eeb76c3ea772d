package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const (
	// Every size has as much data and as much change as any other.
	growthData    = 64 * mib
	growthChanges = 32 * mib
	growthDeltas  = 3
	// largestFile is what ext4 holds; the engine has no such bound.
	largestFile = 16*tib - mib
)

// growthPoint is what a delta of the same changes costs at one size.
type growthPoint struct {
	Size    int64   `json:"size"`
	Seconds float64 `json:"seconds"`
	Memory  int64   `json:"memory"`
	// IndexSent are indexes and lists of chunks; DataSent are the chunks.
	IndexSent int64 `json:"indexSent"`
	DataSent  int64 `json:"dataSent"`
}

// grow backs up a sparse image, and then deltas of changes all over it.
func (b *bench) grow(ctx context.Context, size int64) (growthPoint, error) {
	point := growthPoint{Size: size}
	path := filepath.Join(b.dir, "growth.img")
	f, err := os.Create(path)
	if err != nil {
		return point, err
	}
	defer func() { _ = os.Remove(path) }()
	if err := errors.Join(f.Truncate(min(size, largestFile)), scatter(f, min(size, largestFile), growthData, mib, 0, nil), f.Close()); err != nil {
		return point, err
	}
	g := &godwit{binary: b.godwit.binary, dir: b.dir, gateway: b.gateway, image: &image{path: path}}
	if err := g.prepare(ctx, int(size/mib)); err != nil {
		return point, err
	}
	m, err := g.run(ctx, fullUpload)
	if err != nil {
		return point, err
	}
	point.Memory = m.Memory
	var seconds, index, data []float64
	for delta := range growthDeltas {
		if m, err = b.growthDelta(ctx, g, delta+1); err != nil {
			return point, err
		}
		b.say("growth  %-8s  %6.2f s  %5d MiB  %9s of indexes", sizeText(size), m.Wall, m.Memory/mib, sizeText(m.IndexSent))
		point.Memory = max(point.Memory, m.Memory)
		seconds, index, data = append(seconds, m.Wall), append(index, float64(m.IndexSent)), append(data, float64(m.Sent-m.IndexSent))
	}
	point.Seconds, point.IndexSent, point.DataSent = median(seconds), int64(median(index)), int64(median(data))
	return point, b.tidy(int(size / mib))
}

func (b *bench) growthDelta(ctx context.Context, g *godwit, delta int) (measure, error) {
	f, err := os.OpenFile(g.image.path, os.O_RDWR, 0)
	if err != nil {
		return measure{}, err
	}
	st, err := f.Stat()
	if err != nil {
		return measure{}, errors.Join(err, f.Close())
	}
	var pieces []piece
	err = scatter(f, st.Size(), growthChanges, largestPiece, delta, func(p piece) { pieces = append(pieces, p) })
	if err := errors.Join(err, f.Close()); err != nil {
		return measure{}, err
	}
	extents := filepath.Join(g.home, "extents")
	if err := writeExtents(extents, pieces); err != nil {
		return measure{}, err
	}
	if err := b.gateway.count(&measure{}); err != nil {
		return measure{}, err
	}
	m, err := g.backup(ctx, "--parent", g.images[0], "--extents", extents)
	if err != nil {
		return m, err
	}
	return m, b.gateway.count(&m)
}

// scatter writes noise in pieces all over the file, and tells of each.
func scatter(f *os.File, size, total, largest int64, seed int, told func(piece)) error {
	r := rand.New(rand.NewPCG(uint64(seed), 3))
	noise := newNoise(byte(seed))
	buf := make([]byte, largest)
	for left := total; left > 0; {
		length := (smallestPiece + r.Int64N(largest-smallestPiece+1)) / smallestPiece * smallestPiece
		offset := r.Int64N((size-length)/smallestPiece) * smallestPiece
		if _, err := noise.Read(buf[:length]); err != nil {
			return err
		}
		if _, err := f.WriteAt(buf[:length], offset); err != nil {
			return fmt.Errorf("write %d bytes at %d: %w", length, offset, err)
		}
		left -= length
		if told != nil {
			told(piece{offset, length})
		}
	}
	return nil
}
