// Package kubeapi is the little that a sandbox asks of an API server itself: is an object there,
// and apply this one. It speaks HTTP with a client certificate and needs no client library.
package kubeapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/godwit-io/godwit/test/sandbox/internal/pki"
)

// Client talks to one API server.
type Client struct {
	server string
	http   *http.Client
}

// ErrRefused says that the server understood and will not: asking again is of no use. Anything else
// (no answer, a kind that is not served yet, an overloaded server) may pass.
var ErrRefused = errors.New("refused")

// New makes a client that trusts the authority and shows the leaf.
func New(server string, ca []byte, leaf pki.Leaf) (*Client, error) {
	pair, err := tls.X509KeyPair(leaf.Cert, leaf.Key)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("the cluster's authority is no certificate")
	}
	return &Client{server: server, http: &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2: true,
		},
	}}, nil
}

// Get reads the object at an API path into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	b, err := c.do(ctx, http.MethodGet, path, "", nil)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(b, out)
}

// Apply applies the object (YAML or JSON) at an API path by server-side apply.
func (c *Client) Apply(ctx context.Context, path string, object []byte) error {
	query := url.Values{"fieldManager": {"sandbox"}, "force": {"true"}}
	_, err := c.do(ctx, http.MethodPatch, path+"?"+query.Encode(), "application/apply-patch+yaml", object)
	return err
}

// Until calls Get until it answers without an error and ok says yes.
func (c *Client) Until(ctx context.Context, path string, out any, ok func() bool) error {
	tick := time.NewTicker(60 * time.Millisecond)
	defer tick.Stop()
	for {
		err := c.Get(ctx, path, out)
		if err == nil && ok() {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = errors.New("not yet as wanted")
			}
			return fmt.Errorf("%s%s: %w", c.server, path, err)
		case <-tick.C:
		}
	}
}

func (c *Client) do(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.server+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusCreated:
		return b, nil
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusUnsupportedMediaType:
		return nil, fmt.Errorf("%s %s: %w: %s: %s", method, path, ErrRefused, resp.Status, bytes.TrimSpace(b))
	default:
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(b))
	}
}
