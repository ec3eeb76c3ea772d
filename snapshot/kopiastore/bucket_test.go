package kopiastore

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/minio/minio-go/v7"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// blobBytes is blob.Bytes.
type blobBytes []byte

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }

func (c blobBytes) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(c)
	return int64(n), err
}
func (c blobBytes) Length() int               { return len(c) }
func (c blobBytes) Reader() io.ReadSeekCloser { return nopCloser{bytes.NewReader(c)} }

// scriptedStore answers with what the script says, and then well.
type scriptedStore struct {
	mu      sync.Mutex
	script  []func(http.ResponseWriter)
	arrived []time.Time
	last    *http.Request
	body    []byte
	date    time.Duration
}

func answer(status int, code string, header ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `<?xml version="1.0"?><Error><Code>`+code+`</Code><Message>as scripted</Message></Error>`)
	}
}

func (s *scriptedStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrived = append(s.arrived, time.Now())
	s.last, s.body = r, body
	w.Header().Set("Date", time.Now().Add(s.date).UTC().Format(http.TimeFormat))
	if len(s.script) > 0 {
		next := s.script[0]
		s.script = s.script[1:]
		if next == nil {
			panic(http.ErrAbortHandler)
		}
		next(w)
		return
	}
	w.Header().Set("ETag", `"x"`)
	w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
	if r.Method == http.MethodGet {
		_, _ = io.WriteString(w, "content")
	}
}

func scripted(t *testing.T, script ...func(http.ResponseWriter)) (*scriptedStore, *bucket, snapshot.Location) {
	t.Helper()
	s := &scriptedStore{script: script}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	l := snapshot.Location{
		Type: snapshot.S3, Endpoint: strings.TrimPrefix(server.URL, "http://"), Bucket: "bucket", Prefix: "p/", Region: "us-east-1",
		AccessKeyID: "a", SecretAccessKey: "b", DisableTLS: true, Password: "x",
	}
	b, err := newBucket(l)
	if err != nil {
		t.Fatal(err)
	}
	return s, b, l
}

func TestBucketRepeats(t *testing.T) {
	for name, c := range map[string]struct {
		first func(http.ResponseWriter)
		tries int
		wait  time.Duration
	}{
		"internal":   {answer(500, "InternalError"), 2, 0},
		"gateway":    {answer(502, "BadGateway"), 2, 0},
		"dropped":    {nil, 2, 0},
		"slow down":  {answer(503, "SlowDown"), 2, firstPenalty},
		"retryAfter": {answer(429, "TooManyRequests", "Retry-After", "2"), 2, 2 * time.Second},
		"denied":     {answer(403, "AccessDenied"), 1, 0},
		"no bucket":  {answer(404, "NoSuchBucket"), 1, 0},
		"too large":  {answer(400, "EntityTooLarge"), 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, b, _ := scripted(t, c.first)
			err := b.PutBlob(t.Context(), "q1", blobBytes("bytes"), blob.PutOptions{})
			if (err == nil) != (c.tries > 1) || len(s.arrived) != c.tries {
				t.Fatalf("%d tries: %v", len(s.arrived), err)
			}
			if c.tries > 1 && s.arrived[1].Sub(s.arrived[0]) < c.wait {
				t.Errorf("came back after %s, want %s", s.arrived[1].Sub(s.arrived[0]), c.wait)
			}
		})
	}
}

// TestBucketPauses shows that one who is told to wait makes all others wait.
func TestBucketPauses(t *testing.T) {
	_, b, l := scripted(t, answer(503, "SlowDown", "Retry-After", "1"))
	start := time.Now()
	if _, err := b.client.StatObject(t.Context(), l.Bucket, "p/q0", minio.StatObjectOptions{}); err == nil {
		t.Fatal("the script was not followed")
	}
	if _, err := b.GetMetadata(t.Context(), "q2"); err != nil {
		t.Fatal(err)
	}
	if time.Since(start) < 900*time.Millisecond {
		t.Errorf("another request went out after %s", time.Since(start))
	}
}

func TestBucketSums(t *testing.T) {
	s, b, _ := scripted(t)
	data := blobBytes(noise(200<<10, 1))
	if err := b.PutBlob(t.Context(), "p1", data, blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	sum := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	want := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
	if got := s.last.Header.Get("X-Amz-Checksum-Crc32c"); got != want || s.last.Header.Get("Content-Md5") != "" {
		t.Errorf("sum is %q, want %q; headers are %v", got, want, s.last.Header)
	}
	if err := b.PutBlob(t.Context(), "p1", data, blob.PutOptions{RetentionMode: blob.Compliance, RetentionPeriod: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if h := s.last.Header; h.Get("Content-Md5") == "" || h.Get("X-Amz-Object-Lock-Mode") != "COMPLIANCE" || h.Get("X-Amz-Object-Lock-Retain-Until-Date") == "" {
		t.Errorf("headers of a locked blob are %v", h)
	}
}

// TestStoreChecksSums shows that the store refuses bytes that are not those of
// the sum.
func TestStoreChecksSums(t *testing.T) {
	l := snapshottest.StartObjectStore(t).Location(t, "sums")
	b, err := newBucket(l)
	if err != nil {
		t.Fatal(err)
	}
	options, err := b.putOptions(blobBytes("other bytes"), blob.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = minio.Core{Client: b.client}.PutObject(t.Context(), l.Bucket, b.name("p1"), bytes.NewReader([]byte("these bytes")), 11, "", "", options)
	if err == nil {
		t.Error("the store took bytes that do not match their sum")
	}
	if _, err := b.GetMetadata(t.Context(), "p1"); !errors.Is(err, blob.ErrBlobNotFound) {
		t.Errorf("the blob is there: %v", err)
	}
}

func TestClocks(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, 0, time.Hour} {
		s, b, l := scripted(t)
		s.date = off
		if _, err := b.GetMetadata(t.Context(), "q"); err != nil {
			t.Fatal(err)
		}
		err := b.transport.checkClock(l)
		switch {
		case off == 0 && err != nil, off != 0 && !errors.Is(err, errSkew):
			t.Errorf("off by %s: %v", off, err)
		case off != 0:
			t.Log(err)
		}
		if got := time.Until(b.transport.time()); (got - off).Abs() > 2*time.Second {
			t.Errorf("the store's time is %s from ours, want %s", got, off)
		}
	}
	l := folder(t)
	if _, err := New().Probe(t.Context(), l); err != nil {
		t.Error(err)
	}
	file := filepath.Join(l.Path, "written")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, then, then); err != nil {
		t.Fatal(err)
	}
	if err := checkFolderClock(l, file); !errors.Is(err, errSkew) {
		t.Errorf("a folder an hour behind: %v", err)
	}
}

// TestLimitedStore bounds the requests of a whole backup.
func TestLimitedStore(t *testing.T) {
	limiter, err := snapshot.NewLimiter(snapshot.Limits{Rate: snapshot.Rate{Bytes: 8 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	r := open(t, New(WithLimiter(limiter)), folder(t))
	if _, _, err := backup(t, r, noise(24<<20, 7), nil); err != nil {
		t.Fatal(err)
	}
	// The last pack passes at once, and whoever comes next pays for it.
	if took := time.Since(start); took < 2*time.Second {
		t.Errorf("24 MiB at 8 MiB/s took %s", took)
	}
}
