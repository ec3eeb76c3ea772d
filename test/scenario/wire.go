package scenario

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Wire is a way to the target's pairing service that can be cut: as on a broken
// network nothing is refused, and nothing comes through.
type Wire struct {
	// Address is what the source is told to call.
	Address string
	target  string
	mu      sync.Mutex
	// whole is closed as long as the wire is.
	whole chan struct{}
}

// Wire lays a wire that lasts as long as the context.
func (g *Ground) Wire(ctx context.Context) (*Wire, error) {
	target, err := g.Target.Kubectl(ctx, "-n", Namespace, "get", "configmap", "godwit-cluster-info", "-o", "jsonpath={.data.endpoint}")
	if err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the source's calls: %w", err)
	}
	w := &Wire{Address: listener.Addr().String(), target: strings.TrimSpace(target), whole: make(chan struct{})}
	close(w.whole)
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	go w.serve(ctx, listener)
	return w, nil
}

// Cut lets nothing through any more; Mend lets what waits go on.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.whole = make(chan struct{})
}

// Mend undoes Cut.
func (w *Wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.whole)
}

// pass waits until the wire is whole.
func (w *Wire) pass(ctx context.Context) error {
	w.mu.Lock()
	whole := w.whole
	w.mu.Unlock()
	select {
	case <-whole:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *Wire) serve(ctx context.Context, listener net.Listener) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		go w.connect(ctx, near)
	}
}

func (w *Wire) connect(ctx context.Context, near net.Conn) {
	defer func() { _ = near.Close() }()
	if w.pass(ctx) != nil {
		return
	}
	dialer := net.Dialer{Timeout: 10 * time.Second}
	far, err := dialer.DialContext(ctx, "tcp", w.target)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	ended := make(chan struct{}, 2)
	carry := func(to io.Writer, from io.Reader) {
		defer func() { ended <- struct{}{} }()
		piece := make([]byte, 32<<10)
		for {
			n, err := from.Read(piece)
			if err != nil || w.pass(ctx) != nil {
				return
			}
			if _, err := to.Write(piece[:n]); err != nil {
				return
			}
		}
	}
	go carry(far, near)
	go carry(near, far)
	<-ended
}
