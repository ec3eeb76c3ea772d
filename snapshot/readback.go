package snapshot

import (
	"context"
	"fmt"
)

// settle makes a window durable, reads it back and notes it, as far as each
// was asked for.
func (d *download) settle(ctx context.Context, w window) error {
	reads := d.verify == VerifyReadBack || d.verify == VerifySample
	if !reads && d.journal == nil {
		return nil
	}
	// It also makes the device answer a read-back, not what waits to be written.
	if err := d.sink.Sync(); err != nil {
		return fmt.Errorf("make the volume durable: %w", err)
	}
	if reads {
		if err := d.readBack(ctx, w); err != nil {
			return err
		}
	}
	return d.journal.save(ctx, w.end)
}

// readBack reads what the window wrote and compares.
func (d *download) readBack(ctx context.Context, w window) error {
	return d.readAgain(ctx, func(_ context.Context, yield func(Chunk) error) error {
		for _, e := range w.zeros {
			if err := zeroChunks(e, yield); err != nil {
				return err
			}
		}
		for _, c := range w.chunks {
			if err := yield(c); err != nil {
				return err
			}
		}
		return nil
	})
}

// verifyAll reads what the mode asks for once all is written.
func (d *download) verifyAll(ctx context.Context, tail bool) error {
	switch d.verify {
	case VerifyFull:
		return d.readAgain(ctx, d.everything(tail))
	case VerifySample:
		var untold counters
		return d.readAgain(ctx, chosen(d.to, SampleShare, &untold))
	}
	return nil
}

// readAgain fails where the sink does not hold the chunks.
func (d *download) readAgain(ctx context.Context, list lister) error {
	var n counters
	err := newScan(d.sink, d.to, 0, d.limiter, &n).compare(ctx, list, func(c Chunk) error {
		image := d.to.Image()
		return fmt.Errorf("what was read back is not what was written, so the device is faulty: %s: %w",
			Mismatch{image.Volume, image.ID, c}, errReadBack)
	})
	d.n.read.Add(n.read.Load())
	return err
}
