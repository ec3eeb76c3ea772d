package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Wait returns when the probe holds.
func (p Probe) Wait(ctx context.Context) error {
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		if last = p.try(ctx); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w (last: %w)", p, ctx.Err(), last)
		case <-tick.C:
		}
	}
}

func (p Probe) String() string { return p.TCP + p.Socket + p.URL }

func (p Probe) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if p.URL != "" {
		return tryURL(ctx, p.URL)
	}
	network, addr := "tcp", p.TCP
	if p.Socket != "" {
		network, addr = "unix", p.Socket
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

func tryURL(ctx context.Context, url string) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		// Only readiness is asked, nothing is told or believed.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}
