package main

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// TestConnectionsAreBounded: whoever opens all connections that there are keeps others
// waiting, takes no more memory, and others are served as soon as he lets go.
func TestConnectionsAreBounded(t *testing.T) {
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.ConnectionTimeout(time.Hour))
	healthv1.RegisterHealthServer(s, health.NewServer())
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- listen(ctx, address, s) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	served := func(within time.Duration) error {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		_, err = healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}, grpc.WaitForReady(true))
		return err
	}
	if err := served(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	held := make([]net.Conn, 0, mostConnections)
	for range mostConnections {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	if err := served(time.Second); err == nil {
		t.Errorf("beside %d open connections one more is served", mostConnections)
	}
	for _, conn := range held {
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := served(30 * time.Second); err != nil {
		t.Errorf("after all were closed: %v", err)
	}
}
