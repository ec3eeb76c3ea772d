package kopiastore

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"

	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

func TestObjectStore(t *testing.T) {
	t.Parallel()
	s := snapshottest.StartObjectStore(t)
	n := 0
	location := func(t *testing.T) snapshot.Location {
		n++
		return s.Location(t, fmt.Sprintf("bucket-%d", n))
	}
	snapshottest.TestStore(t, func(t *testing.T) snapshot.Store { return open(t, New(), location(t)) })
	t.Run("rounds", func(t *testing.T) { snapshottest.TestRounds(t, open(t, New(), location(t))) })
	t.Run("epochs", func(t *testing.T) {
		place := location(t)
		snapshottest.TestEpochs(t, open(t, New(), place), open(t, New(), place))
	})
	t.Run("histories", func(t *testing.T) {
		snapshottest.TestHistories(t, 3, "./snapshot/kopiastore", func(t *testing.T) *snapshottest.World {
			place := location(t)
			return &snapshottest.World{Chunk: 4 << 10, Open: func(t *testing.T, host string) (snapshot.Store, error) {
				own := place
				own.Host, own.CacheDir = host, ""
				return open(t, New(), own), nil
			}}
		})
	})
	t.Run("probe", func(t *testing.T) { testProbe(t, s, location(t)) })
}

func testProbe(t *testing.T, s *snapshottest.ObjectStore, good snapshot.Location) {
	o := New()
	traits, err := o.Probe(t.Context(), good)
	if err != nil || traits.ReadOnly {
		t.Fatalf("%+v, %v", traits, err)
	}
	left, err := os.ReadDir(s.Root + "/" + good.Bucket)
	if err != nil || len(left) > 1 {
		t.Errorf("the probe left %v (%v)", left, err)
	}
	open(t, o, good)
	otherCA := snapshottest.StartObjectStore(t).CA
	for name, c := range map[string]struct {
		change func(*snapshot.Location)
		want   string
	}{
		"bucket":   {func(l *snapshot.Location) { l.Bucket = "nothere" }, `bucket "nothere" does not exist at ` + s.Endpoint + `: create it or correct spec.location.path`},
		"key":      {func(l *snapshot.Location) { l.AccessKeyID = "wrong" }, "the keys were refused by " + s.Endpoint + " (XAdminUserNotFound): check the Secret"},
		"secret":   {func(l *snapshot.Location) { l.SecretAccessKey = "wrong" }, "the keys were refused by " + s.Endpoint + " (SignatureDoesNotMatch): check the Secret"},
		"no key":   {func(l *snapshot.Location) { l.AccessKeyID = "" }, "check the Secret"},
		"no CA":    {func(l *snapshot.Location) { l.CABundle = nil }, "certificate is not signed by a CA that this machine knows"},
		"other CA": {func(l *snapshot.Location) { l.CABundle = otherCA }, "certificate is not signed by the CA bundle"},
		"no PEM":   {func(l *snapshot.Location) { l.CABundle = []byte("x") }, "the CA bundle is not PEM"},
		"plain":    {func(l *snapshot.Location) { l.DisableTLS = true }, "TLS"},
		"refused":  {func(l *snapshot.Location) { l.Endpoint = "127.0.0.1:1" }, "127.0.0.1:1 refuses connections"},
		"unknown":  {func(l *snapshot.Location) { l.Endpoint = "nothere.invalid:9000" }, "the name of nothere.invalid:9000 cannot be resolved"},
		"scheme":   {func(l *snapshot.Location) { l.Endpoint = "https://x" }, "without a scheme"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			c.change(&bad)
			for what, err := range map[string]error{"probe": justProbe(t.Context(), o, bad), "open": justOpen(t.Context(), o, bad)} {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s says: %v\nwant: %s", what, err, c.want)
				} else {
					t.Log(err)
				}
			}
		})
	}
	wrong := good
	wrong.Password = "another"
	if err := justOpen(t.Context(), o, wrong); err == nil || !strings.Contains(err.Error(), "repository password is wrong") {
		t.Errorf("wrong password: %v", err)
	}
	empty := good
	empty.Password = ""
	if err := justOpen(t.Context(), o, empty); err == nil || !strings.Contains(err.Error(), "repository password is empty") {
		t.Errorf("no password: %v", err)
	}
	none := good
	none.Prefix = "other/"
	if _, err := o.Open(t.Context(), none, false); !errors.Is(err, errNoRepository) {
		t.Errorf("opening no repository: %v", err)
	}
}

func justProbe(ctx context.Context, o *Opener, l snapshot.Location) error {
	_, err := o.Probe(ctx, l)
	return err
}

func justOpen(ctx context.Context, o *Opener, l snapshot.Location) error {
	r, err := o.Open(ctx, l, true)
	if err != nil {
		return err
	}
	return r.Close(ctx)
}

// TestStoreThatMayOnlyBeRead takes keys that may not write for what they are, and
// restores by them.
func TestStoreThatMayOnlyBeRead(t *testing.T) {
	l := snapshottest.StartObjectStore(t).Location(t, "box")
	data := noise(3<<20, 1)
	image, _, err := backup(t, open(t, New(), l), data, nil)
	if err != nil {
		t.Fatal(err)
	}
	upstream, roots := l.Endpoint, x509.NewCertPool()
	roots.AppendCertsFromPEM(l.CABundle)
	forward := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "https", upstream },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
	}
	var headers http.Header
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut {
			forward.ServeHTTP(w, r)
			return
		}
		headers = r.Header.Clone()
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>`)
	}))
	defer front.Close()
	l.Endpoint, l.DisableTLS, l.StorageClass, l.Encryption = strings.TrimPrefix(front.URL, "http://"), true, "STANDARD_IA", "aws:kms"
	traits, err := New().Probe(t.Context(), l)
	if err != nil || !traits.ReadOnly {
		t.Fatalf("%+v, %v", traits, err)
	}
	if headers.Get("X-Amz-Storage-Class") != "STANDARD_IA" || headers.Get("X-Amz-Server-Side-Encryption") != "aws:kms" {
		t.Errorf("asked for %v", headers)
	}
	headers = nil
	r, err := New().open(t.Context(), l, false)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, r, image.ID, data)
	if err := r.Close(t.Context()); err != nil || headers != nil {
		t.Errorf("%v; it wrote: %v", err, headers)
	}
	l.Encryption = "rot13"
	if _, err := New().Probe(t.Context(), l); err == nil || !strings.Contains(err.Error(), "rot13") {
		t.Errorf("unknown encryption: %v", err)
	}
}

// TestTwoMakeOneRepository opens an empty place from several clients at once.
func TestTwoMakeOneRepository(t *testing.T) {
	l := folder(t)
	const clients = 4
	errs := make(chan error, clients)
	images := make(chan snapshot.ImageID, clients)
	for i := range clients {
		own := l
		own.CacheDir, own.Host = t.TempDir(), string(rune('a'+i))
		go func() {
			r, err := New().Open(t.Context(), own, true)
			if err != nil {
				errs <- err
				return
			}
			image, _, err := snapshot.Backup(t.Context(), snapshot.BackupRequest{
				Source: snapshottest.NewDevice(bytes.Repeat([]byte{byte(i + 1)}, 10000)),
				Image:  snapshot.Image{Volume: snapshot.Volume{Cluster: own.Host, Namespace: "n", Name: "v"}, Method: snapshot.MethodScan},
			}, r)
			images <- image.ID
			errs <- errors.Join(err, r.Close(t.Context()))
		}()
	}
	for range clients {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, New(), l)
	for range clients {
		sink := snapshottest.NewDevice(make([]byte, 10000))
		if _, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: <-images}, r); err != nil {
			t.Error(err)
		}
	}
}

// TestMadeAgain shows that the cache of a repository that is gone does not
// speak for the one that took its place.
func TestMadeAgain(t *testing.T) {
	l := folder(t)
	if err := justOpen(t.Context(), New(), l); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(l.Path); err != nil {
		t.Fatal(err)
	}
	l.Password = "another secret"
	if err := justOpen(t.Context(), New(), l); err != nil {
		t.Error(err)
	}
}
