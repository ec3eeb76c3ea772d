package kopiastore

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// azuriteVariable names the program azurite-blob, Azure's own double of its
// blob storage.
const azuriteVariable = "GODWIT_AZURITE"

// azurite runs one, and makes a container in it.
//
// The account is the first part of the server's address, since kopia makes the
// host's name of both; then the container's name has to say the account again.
func azurite(t *testing.T) snapshot.Location {
	t.Helper()
	program := os.Getenv(azuriteVariable)
	if program == "" {
		t.Skip("needs azurite-blob (npm install azurite): set " + azuriteVariable + " to its path")
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	key := base64.StdEncoding.EncodeToString([]byte("a key for tests only"))
	cmd := exec.Command(program, "--blobHost", "127.0.0.1", "--blobPort", port, "--location", t.TempDir(), "--silent", "--disableTelemetry", "--skipApiVersionCheck")
	cmd.Env = append(os.Environ(), "AZURITE_ACCOUNTS=127:"+key)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	makeContainer(t, address, key)
	return snapshot.Location{
		Type: snapshot.Azure, Bucket: "127/box", Prefix: "one/", AccessKeyID: "127", SecretAccessKey: snapshot.Secret(key),
		Endpoint: strings.TrimPrefix(address, "127."), DisableTLS: true, Password: "a long secret", CacheDir: t.TempDir(),
	}
}

func makeContainer(t *testing.T, address, key string) {
	t.Helper()
	secret, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 300 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+address+"/127/box?restype=container", nil)
		if err != nil {
			t.Fatal(err)
		}
		date := time.Now().UTC().Format(http.TimeFormat)
		request.Header.Set("X-Ms-Date", date)
		request.Header.Set("X-Ms-Version", "2021-12-02")
		sign := hmac.New(sha256.New, secret)
		_, _ = fmt.Fprintf(sign, "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:%s\nx-ms-version:2021-12-02\n/127/127/box\nrestype:container", date)
		request.Header.Set("Authorization", "SharedKey 127:"+base64.StdEncoding.EncodeToString(sign.Sum(nil)))
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode != http.StatusCreated {
				t.Fatalf("make a container: %s", response.Status)
			}
			return
		}
		<-tick.C
	}
	t.Fatal("azurite does not answer")
}

func TestAzure(t *testing.T) {
	l := azurite(t)
	if _, err := New().Probe(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	data := noise(30<<20, 1)
	r := open(t, New(), l)
	image, _, err := backup(t, r, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, r, image.ID, data)
	t.Run("rounds", func(t *testing.T) { snapshottest.TestRounds(t, r) })
	for want, change := range map[string]func(*snapshot.Location){
		"does not exist": func(l *snapshot.Location) { l.Bucket = "127/other" },
		"was refused": func(l *snapshot.Location) {
			l.SecretAccessKey = snapshot.Secret(base64.StdEncoding.EncodeToString([]byte("another")))
		},
		"check the Secret": func(l *snapshot.Location) { l.AccessKeyID = "" },
	} {
		bad := l
		change(&bad)
		for what, err := range map[string]error{"probe": justProbe(t.Context(), New(), bad), "open": justOpen(t.Context(), New(), bad)} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want: %s", what, err, want)
			}
		}
	}
}

// TestGoogle goes the way of Google's storage, as far as one can without it:
// any store that speaks S3 does.
func TestGoogle(t *testing.T) {
	l := snapshottest.StartObjectStore(t).Location(t, "google")
	l.Type = snapshot.GCS
	if _, err := New().Probe(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	r := open(t, New(), l)
	data := noise(3<<20, 1)
	image, _, err := backup(t, r, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, r, image.ID, data)
	if n := normal(snapshot.Location{Type: snapshot.GCS}); n.Endpoint != googleEndpoint || n.Type != snapshot.S3 {
		t.Errorf("Google's place is %+v", n)
	}
}
