package snapshot

import (
	"context"
	"errors"
	"fmt"
)

// ReconcileRequest says which image a volume of unknown content shall hold.
type ReconcileRequest struct {
	Sink Sink
	// To is the image that the sink shall hold.
	To ImageID
	// Volume, where it is set, is whose image To must be.
	Volume Volume
	// Workers fetch and write at once; zero means 6. Hashing uses every core.
	Workers int
	// Limiter and Budget are those of ApplyRequest.
	Limiter *Limiter
	Budget  *Budget
	// Verify says how far the sink is trusted with what is written.
	Verify   VerifyMode
	Progress Progress
}

// Reconcile makes the sink hold the image, trusting nothing about what it
// holds: it reads and hashes all of it, and fetches and writes only the chunks
// whose content differs. What lies behind the image becomes zeros. It may be
// cut short and run again at any time.
//
// In its Stats, Read is what was hashed and Changed is what differed.
func Reconcile(ctx context.Context, r ReconcileRequest, s Store) (Stats, error) {
	d := &download{sink: r.Sink, verify: r.Verify, options: fetchOptions(r.Workers, r.Budget), limiter: r.Limiter}
	if err := d.reconcile(ctx, r, s); err != nil {
		return d.n.stats(), fmt.Errorf("reconcile with image %s: %w", r.To, err)
	}
	return d.n.stats(), nil
}

func (d *download) reconcile(ctx context.Context, r ReconcileRequest, s Store) (err error) {
	if err := d.open(ctx, r.To, r.Volume, s); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.to.Close()) }()
	held := newScan(r.Sink, d.to, 0, r.Limiter, &d.n)
	if err := held.findHoles(); err != nil {
		return err
	}
	d.n.total.Add(r.Sink.Size())
	stop := d.n.report(ctx, r.Progress)
	defer stop()
	return d.run(ctx, func(ctx context.Context, w *windows) error {
		return held.compare(ctx, d.everything(true), func(c Chunk) error {
			d.n.changed.Add(c.Length)
			d.n.total.Add(c.Length)
			return w.add(c)
		})
	}, true)
}

// everything lists the image's chunks, and with tail the zeros behind them.
func (d *download) everything(tail bool) lister {
	return func(ctx context.Context, yield func(Chunk) error) error {
		if err := imageChunks(ctx, d.to, yield); err != nil || !tail {
			return err
		}
		return zeroChunks(d.tail(), yield)
	}
}
