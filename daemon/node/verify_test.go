package node

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// applyAs asks for an image to be applied and checked in a mode.
func (r *rig) applyAs(name, pv, image string, mode api.VerifyMode) {
	r.t.Helper()
	r.transfer(name, api.VolumeTransferSpec{Direction: api.Apply, Round: "r", Image: image, Verify: mode, Mount: api.VolumeMount{PersistentVolume: pv}})
}

// rotten is a device that does not keep one byte of what it takes.
type rotten struct {
	Devices
	at int64
}

func (d rotten) OpenSink(path string) (Sink, error) {
	s, err := d.Devices.OpenSink(path)
	return rottenSink{s, d.at}, err
}

type rottenSink struct {
	Sink
	at int64
}

func (s rottenSink) WriteAt(b []byte, at int64) (int, error) {
	if at <= s.at && s.at < at+int64(len(b)) {
		b = bytes.Clone(b)
		b[s.at-at] ^= 1
	}
	return s.Sink.WriteAt(b, at)
}

// TestFlippedOnTheDevice: every mode that reads again finds the byte, names volume
// and offset, and does not try the device once more.
func TestFlippedOnTheDevice(t *testing.T) {
	r := newRig(t)
	r.publish("pv-src", content(1, size))
	d := r.daemon()
	r.upload("up", "pv-src", "1")
	image := d.finish("up").Status.Image
	bad := r.daemonWith(rotten{r.devices, 3 << 20})
	for _, mode := range []api.VerifyMode{"", api.VerifyReadBack, api.VerifySample, api.VerifyFull} {
		name := "down" + strings.ToLower(string(mode))
		r.publish("pv-"+name, content(9, size))
		r.applyAs(name, "pv-"+name, image, mode)
		s := bad.finish(name).Status
		if s.Phase != api.TransferFailed || s.Attempts != 1 || !strings.Contains(s.Message, "the device is faulty") ||
			!strings.Contains(s.Message, "cms/data") || !strings.Contains(s.Message, "bytes at ") {
			t.Errorf("%q: %s after %d attempts: %s", mode, s.Phase, s.Attempts, s.Message)
		}
	}
}

// TestFlippedInTheBucket: a byte of each stored blob is flipped. Nothing that is
// wrong is written, in no mode, and no attempt is made without end.
func TestFlippedInTheBucket(t *testing.T) {
	for _, mode := range []api.VerifyMode{api.VerifySealed, api.VerifyFull} {
		r := newRig(t)
		want := content(1, size)
		r.publish("pv-src", want)
		d := r.daemon()
		r.upload("up", "pv-src", "1")
		image := d.finish("up").Status.Image
		flipBlobs(t, r.store)
		r.cache = t.TempDir()
		held := content(9, size)
		path := r.publish("pv-dst", held)
		r.applyAs("down", "pv-dst", image, mode)
		s := r.daemon().persist("down").Status
		if s.Phase != api.TransferFailed || s.Attempts > fewAttempts {
			t.Errorf("%s: %s after %d attempts: %s", mode, s.Phase, s.Attempts, s.Message)
		}
		got, err := os.ReadFile(path)
		r.must(err)
		for i := range got {
			if got[i] != held[i] && got[i] != want[i] {
				t.Fatalf("%s: byte %d is neither the old one nor the image's", mode, i)
			}
		}
		t.Logf("%s: %s", mode, s.Message)
	}
}

// persist lets the daemon work, and try again, until the transfer is final.
func (d *daemon) persist(name string) *api.VolumeTransfer {
	d.rig.t.Helper()
	d.rig.eventually("transfer "+name+" is final", func() bool {
		d.see(name)
		return isFinal(d.rig.get(name).Status.Phase)
	})
	return d.rig.get(name)
}

// flipBlobs flips a byte in the middle of each pack of data.
func flipBlobs(t *testing.T, dir string) {
	t.Helper()
	flipped := 0
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasPrefix(strings.TrimPrefix(path, dir+"/"), "p") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			return err
		}
		b[len(b)/2] ^= 1
		flipped++
		return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, b, 0o600))
	})
	if err != nil || flipped == 0 {
		t.Fatalf("%d blobs were flipped: %v", flipped, err)
	}
}

// TestFlippedInTransit: a line that flips a byte of some answers costs attempts, and
// never a byte of the volume.
func TestFlippedInTransit(t *testing.T) {
	store := snapshottest.StartObjectStore(t)
	line := newLine(t, store.Endpoint)
	r := newRig(t)
	location := store.Location(t, "volumes")
	location.Endpoint, location.CABundle = line.address, line.ca
	r.must(r.client.Update(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: secret}, Data: location.Data()}))
	want := content(1, size)
	r.publish("pv-src", want)
	d := r.daemon()
	r.upload("up", "pv-src", "1")
	up := d.finish("up").Status
	if up.Phase != api.TransferSucceeded {
		t.Fatalf("%+v", up)
	}
	r.cache = t.TempDir()
	line.flips.Store(2)
	dst := r.publish("pv-dst", content(9, size))
	r.applyAs("down", "pv-dst", up.Image, api.VerifySealed)
	if s := r.daemon().persist("down").Status; s.Phase != api.TransferSucceeded {
		t.Fatalf("%s: %s", s.Phase, s.Message)
	}
	if line.flips.Load() > 0 {
		t.Fatal("nothing was flipped on the line")
	}
	r.wantFile(dst, want)
}

// line stands before a store and flips a byte in the middle of large answers, as
// long as flips are left.
type line struct {
	address string
	ca      []byte
	flips   atomic.Int32
}

func newLine(t *testing.T, store string) *line {
	t.Helper()
	l := &line{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL = &url.URL{Scheme: "https", Host: store, Path: p.In.URL.Path, RawPath: p.In.URL.RawPath, RawQuery: p.In.URL.RawQuery}
			p.Out.Host = p.In.Host
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		ModifyResponse: func(resp *http.Response) error {
			if resp.Request.Method != http.MethodGet || resp.ContentLength < 1<<10 || l.flips.Add(-1) < 0 {
				return nil
			}
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 1
			resp.Body = io.NopCloser(bytes.NewReader(b))
			return nil
		},
	}
	server := httptest.NewTLSServer(proxy)
	t.Cleanup(server.Close)
	l.address = server.Listener.Addr().String()
	l.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return l
}

// TestFlippedFile names the file and the offset.
func TestFlippedFile(t *testing.T) {
	r := newRig(t)
	dir := r.folder("pv-tree")
	r.must(os.MkdirAll(filepath.Join(dir, "books"), 0o750))
	for name, text := range map[string]string{"books/one": "first book", "books/two": strings.Repeat("x", 300<<10)} {
		r.must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	d := r.daemon()
	r.transfer("up", api.VolumeTransferSpec{Direction: api.Upload, Round: "1", Mount: api.VolumeMount{PersistentVolume: "pv-tree", Mode: modeFilesystem}})
	up := d.finish("up").Status
	if up.Phase != api.TransferSucceeded {
		t.Fatal(up.Message)
	}
	location := snapshot.Location{Type: snapshot.Filesystem, Path: r.store, Password: "secret"}
	repository, err := r.opener.Open(t.Context(), location, false)
	r.must(err)
	defer func() { r.must(repository.Close(t.Context())) }()
	if stats, err := repository.VerifyTree(t.Context(), snapshot.ImageID(up.Image), dir, 1, nil); err != nil || stats.Read != 10+300<<10 {
		t.Fatalf("%+v, %v", stats, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "books/two"))
	r.must(err)
	b[270000] ^= 1
	r.must(os.WriteFile(filepath.Join(dir, "books/two"), b, 0o600))
	_, err = repository.VerifyTree(t.Context(), snapshot.ImageID(up.Image), dir, 1, nil)
	if !errors.Is(err, snapshot.ErrDiffers) || !strings.Contains(err.Error(), `"books/two"`) || !strings.Contains(err.Error(), "at 270000") {
		t.Errorf("it says %v", err)
	}
	r.must(os.Remove(filepath.Join(dir, "books/two")))
	if _, err = repository.VerifyTree(t.Context(), snapshot.ImageID(up.Image), dir, 1, nil); !errors.Is(err, snapshot.ErrDiffers) {
		t.Errorf("a file that is gone: %v", err)
	}
}
