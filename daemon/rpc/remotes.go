package rpc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
	pairingrpc "github.com/godwit-io/godwit/pairing/rpc"
)

// Remotes reaches the targets of this cluster's pairs, over one connection each.
type Remotes struct {
	joiner *pairing.Joiner
	client pairingrpc.Client

	mu    sync.Mutex
	conns map[string]connection
}

// connection is open to one target; identity changes with endpoint and certificate.
type connection struct {
	conn     *grpc.ClientConn
	identity [sha256.Size]byte
}

// NewRemotes returns Remotes that join by j and dial by c.
func NewRemotes(j *pairing.Joiner, c pairingrpc.Client) *Remotes {
	return &Remotes{joiner: j, client: c, conns: map[string]connection{}}
}

// Join redeems a token; see pairing.Joiner.
func (r *Remotes) Join(ctx context.Context, t pairing.Token, p pairing.ClusterPair) (pairing.Peer, error) {
	return r.joiner.Join(ctx, t, p)
}

// Move follows a target whose address changed; see pairing.Joiner.
func (r *Remotes) Move(ctx context.Context, p pairing.Peer, endpoint string) (pairing.Peer, error) {
	return r.joiner.Move(ctx, p, endpoint)
}

// Rotate replaces the pair's key and certificate; see pairing.Joiner.
func (r *Remotes) Rotate(ctx context.Context, p pairing.Peer) (pairing.Peer, error) {
	return r.joiner.Rotate(ctx, p)
}

// ReplacePassword tells the target the next password of the pair's repository.
func (r *Remotes) ReplacePassword(ctx context.Context, p pairing.Peer) error {
	return pairingrpc.ReplacePassword(ctx, r.client, p)
}

// ReplaceSealingKey tells the target by which key this cluster seals next.
func (r *Remotes) ReplaceSealingKey(ctx context.Context, p pairing.Peer, c pairing.SealingChange) error {
	return pairingrpc.ReplaceSealingKey(ctx, r.client, p, c)
}

// Leave closes what is open to the pair, and tells the target that it is over.
func (r *Remotes) Leave(ctx context.Context, p pairing.Peer) error {
	defer r.Close(p.PairID)
	if !p.Joined() {
		return nil
	}
	p, err := r.joiner.Renew(ctx, p)
	if err != nil {
		return err
	}
	return r.client.Leave(ctx, p)
}

// Check renews the pair's certificate where that is due, and asks the target
// how the pair stands.
//
// A target that does not answer at its address is looked for at the others that
// it told of. Whoever answers there has to prove that it is the same cluster.
func (r *Remotes) Check(ctx context.Context, p pairing.Peer) (time.Time, string, error) {
	expires, storageError, err := r.checkAt(ctx, p)
	if !errors.Is(err, pairing.ErrUnreachable) {
		return expires, storageError, err
	}
	for _, address := range p.Addresses {
		if address == p.Endpoint {
			continue
		}
		moved := p
		moved.Endpoint = address
		if expires, storageError, again := r.checkAt(ctx, moved); again == nil {
			return expires, storageError, nil
		}
	}
	return time.Time{}, "", err
}

// checkAt stores the peer, with its address, only once it has answered.
func (r *Remotes) checkAt(ctx context.Context, p pairing.Peer) (time.Time, string, error) {
	p, err := r.joiner.Renew(ctx, p)
	if err != nil {
		return time.Time{}, "", err
	}
	conn, err := r.dial(p)
	if err != nil {
		return time.Time{}, "", err
	}
	checked, err := pairingrpc.Check(ctx, conn)
	if err != nil {
		return time.Time{}, "", err
	}
	if p, err = r.joiner.Follow(ctx, p, p.Endpoint, checked.Endpoints, checked.Authority); err != nil {
		return time.Time{}, "", err
	}
	return p.CertificateExpires, checked.StorageError, nil
}

// Target is the agent on the other side of the pair.
func (r *Remotes) Target(_ context.Context, p pairing.Peer) (migrate.Target, error) {
	conn, err := r.dial(p)
	if err != nil {
		return nil, err
	}
	return NewTarget(conn), nil
}

// Close closes what is open to the pair.
func (r *Remotes) Close(pairID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, open := r.conns[pairID]; open {
		delete(r.conns, pairID)
		c.conn.Close() //nolint:errcheck // nothing is lost with a connection that is not wanted any more
	}
}

// dial gives the open connection, or a new one once the peer's certificate or
// endpoint is another. Calls on the old one fail and are tried again.
func (r *Remotes) dial(p pairing.Peer) (*grpc.ClientConn, error) {
	identity := sha256.Sum256(append([]byte(p.Endpoint+"\x00"), p.Certificate...))
	r.mu.Lock()
	defer r.mu.Unlock()
	old, open := r.conns[p.PairID]
	if open && old.identity == identity {
		return old.conn, nil
	}
	conn, err := r.client.Dial(p)
	if err != nil {
		return nil, fmt.Errorf("dial pair %s: %w", p.PairID, err)
	}
	if open {
		old.conn.Close() //nolint:errcheck // replaced
	}
	r.conns[p.PairID] = connection{conn: conn, identity: identity}
	return conn, nil
}
