package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/godwit-io/godwit/daemon/controller"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/rpc"
	"github.com/godwit-io/godwit/daemon/target"
	"github.com/godwit-io/godwit/pairing"
	pairingrpc "github.com/godwit-io/godwit/pairing/rpc"
)

const (
	// offerTTL is how long the target has to open the other direction.
	offerTTL = 24 * time.Hour
	// ringEvery is how often the authorities are read again, which another
	// replica or godwitctl may have replaced.
	ringEvery = 15 * time.Second
	// mostConnections bounds what connections take of the controller's memory;
	// more wait until others are closed.
	mostConnections = 1024
	// tellMost bounds what waits to be told of changed pairs; more is told later.
	tellMost = 256
)

// remotes is the way to the targets of this cluster's pairs.
func (w *wiring) remotes() *rpc.Remotes {
	wire := pairingrpc.Client{Now: time.Now}
	joiner := &pairing.Joiner{
		Peers: w.store.Peers(), Exchange: wire, ClusterID: w.clusterID, ClusterName: w.clusterName, Now: time.Now, Random: rand.Reader,
	}
	if w.advertise != "" {
		joiner.Offer = w.offer
	}
	return rpc.NewRemotes(joiner, wire)
}

// offer makes a token by which a target may pair the other way.
func (w *wiring) offer(ctx context.Context, p pairing.ClusterPair) (pairing.Token, error) {
	return pairing.Mint(ctx, w.store.Grants(), pairing.MintRequest{
		Scope: pairing.Scope{Namespaces: []string{p.Namespace}}, BackupLocation: p.BackupLocation, TTL: offerTTL, Endpoint: w.advertise,
		ClusterID: w.clusterID, ClusterName: w.clusterName, CAFingerprint: w.ring.Current().Fingerprint(),
	}, time.Now(), rand.Reader)
}

// addIncomingPairs shows the pairs of other clusters to this one.
func (w *wiring) addIncomingPairs() error {
	w.changed = make(chan event.GenericEvent, tellMost)
	pairs := &controller.IncomingPairs{
		Client: w.mgr.GetClient(), Peers: w.store.Peers(), Grants: w.store.Grants(), Locator: w.locator,
		Events: w.mgr.GetEventRecorder("godwit"), Namespace: w.namespace, Now: time.Now, Changed: w.changed,
	}
	return errors.Join(
		pairs.SetupWithManager(w.mgr),
		w.mgr.Add(manager.RunnableFunc(func(ctx context.Context) error { return pairs.Watch(ctx, w.tell) })),
		w.mgr.Add(unelected{serve: w.keepRing}),
	)
}

// tell drops what it cannot tell at once: IncomingPairs looks at all of them
// from time to time.
func (w *wiring) tell(pairID string) {
	select {
	case w.changed <- event.GenericEvent{Object: controller.IncomingPair(w.namespace, pairID)}:
	default:
	}
}

// keepRing follows the authorities that are stored.
func (w *wiring) keepRing(ctx context.Context) error {
	ticker := time.NewTicker(ringEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		stored, err := w.store.EnsureRing(ctx, w.clusterID, time.Now())
		if err != nil {
			if ctx.Err() == nil {
				w.mgr.GetLogger().Error(err, "read the pairing authorities again")
			}
			continue
		}
		before := w.ring.Current().Fingerprint()
		w.ring.Replace(stored.Current(), stored.Retired(time.Now())...)
		if stored.Current().Fingerprint() == before {
			continue
		}
		if err := w.publish(ctx, w.mgr.GetClient()); err != nil {
			return err
		}
	}
}

// server answers other clusters. Every replica may: all state is in objects.
func (w *wiring) server(ctx context.Context, agent *target.Agent) (manager.Runnable, error) {
	var endpoints []string
	if w.advertise != "" {
		endpoints = []string{w.advertise}
	}
	config := pairingrpc.Config{
		Issuer: &pairing.Issuer{
			Grants: w.store.Grants(), Peers: w.store.Peers(), Ring: w.ring, ClusterName: w.clusterName,
			CertificateTTL: w.certificateTTL, Grace: w.grace, Now: time.Now, Random: rand.Reader,
		},
		Hosts: hosts(w.advertise), Endpoints: endpoints, StorageCheck: w.checkStorage, Changed: w.tell,
		Log: slog.New(slog.NewJSONHandler(os.Stderr, nil)),
	}
	authority, err := w.sdkAuthority(ctx)
	if err != nil {
		return nil, err
	}
	if authority != nil {
		config.Gate = authority
	}
	s := pairingrpc.NewServer(config).GRPC()
	if authority != nil {
		w.sdk().Register(s)
	}
	healthv1.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	rpc.Register(s, func(p pairing.Peer) migrate.Target { return agent.For(p) })
	return unelected{serve: func(ctx context.Context) error { return listen(ctx, w.pairingAddress, s) }}, nil
}

func hosts(advertise string) []string {
	host, _, err := net.SplitHostPort(advertise)
	if err != nil || host == "" {
		return nil
	}
	return []string{host}
}

// checkStorage says what keeps this cluster from the pair's repository.
func (w *wiring) checkStorage(ctx context.Context, p pairing.Peer) error {
	location, err := w.locator.ForPeer(ctx, p, p.BackupLocation)
	if err != nil {
		return err
	}
	return w.opener.Check(ctx, location, false)
}

// unelected is a runnable that every replica runs.
type unelected struct {
	serve func(context.Context) error
}

func (u unelected) Start(ctx context.Context) error { return u.serve(ctx) }
func (u unelected) NeedLeaderElection() bool        { return false }

func listen(ctx context.Context, address string, s *grpc.Server) error {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for other clusters: %w", err)
	}
	l = netutil.LimitListener(l, mostConnections)
	stopped := context.AfterFunc(ctx, func() {
		// Calls are short, and each may be said again: none is worth waiting for long.
		force := time.AfterFunc(stopGrace, s.Stop)
		defer force.Stop()
		s.GracefulStop()
	})
	defer stopped()
	if err := s.Serve(l); err != nil {
		return fmt.Errorf("serve other clusters: %w", err)
	}
	return nil
}
