package pairing

import (
	"context"
	"fmt"
)

// TwinOf finds the pair that serves the other direction; ErrNotFound where there is
// none.
func TwinOf(ctx context.Context, peers PeerStore, p Peer) (Peer, error) {
	other := Outgoing
	if p.Direction == Outgoing {
		other = Incoming
	}
	if p.Twin != "" {
		twin, err := peers.Get(ctx, other, p.Twin)
		if err != nil {
			return Peer{}, fmt.Errorf("the other direction of pair %s: %w", p.PairID, err)
		}
		return twin, nil
	}
	all, err := peers.List(ctx, other)
	if err != nil {
		return Peer{}, fmt.Errorf("the other direction of pair %s: %w", p.PairID, err)
	}
	for _, twin := range all {
		if twin.Twin == p.PairID {
			return twin, nil
		}
	}
	return Peer{}, fmt.Errorf("the other direction of pair %s: %w", p.PairID, ErrNotFound)
}
