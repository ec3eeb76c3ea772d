package kopiastore

import (
	"bufio"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godwit-io/godwit/snapshot"
)

// google answers as Google's token service and cloud storage do, as far as kopia's
// client asks: it shows that the key is used as it should be, and no more than that.
type google struct {
	mu      sync.Mutex
	objects map[string][]byte
	asked   []string
}

// seen is what was asked so far, and how many objects there are.
func (g *google) seen() (asked []string, objects int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked), len(g.objects)
}

func (g *google) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, r.Method+" "+r.Host+r.URL.Path)
	if r.Host == "oauth2.googleapis.com" {
		g.token(w, r)
		return
	}
	if r.Header.Get("Authorization") != "Bearer given" {
		http.Error(w, `{"error": {"code": 401, "message": "no token"}}`, http.StatusUnauthorized)
		return
	}
	switch {
	case strings.HasPrefix(r.URL.Path, "/upload/storage/v1/b/box/o"):
		g.upload(w, r)
	case r.URL.Path == "/storage/v1/b/box/o":
		var items []map[string]any
		for name := range g.objects {
			if strings.HasPrefix(name, r.URL.Query().Get("prefix")) {
				items = append(items, g.describe(name))
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "storage#objects", "items": items})
	case r.Method == http.MethodDelete:
		name, _ := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), "/storage/v1/b/box/o/"))
		delete(g.objects, name)
		w.WriteHeader(http.StatusNoContent)
	default:
		data, there := g.objects[strings.TrimPrefix(r.URL.Path, "/box/")]
		if !there {
			http.Error(w, `{"error": {"code": 404, "message": "bucket doesn't exist"}}`, http.StatusNotFound)
			return
		}
		http.ServeContent(w, r, "", time.Now(), strings.NewReader(string(data)))
	}
}

// token takes a JSON Web Token of the account, signed by its key.
func (g *google) token(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.FormValue("assertion"), ".")
	var claims map[string]any
	if len(parts) == 3 {
		if raw, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
			_ = json.Unmarshal(raw, &claims)
		}
	}
	if claims["iss"] != "godwit@project.iam.gserviceaccount.com" {
		http.Error(w, `{"error": "invalid_grant"}`, http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "given", "token_type": "Bearer", "expires_in": 3600})
}

func (g *google) upload(w http.ResponseWriter, r *http.Request) {
	_, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	parts := multipart.NewReader(r.Body, params["boundary"])
	var about struct {
		Name string `json:"name"`
	}
	first, err := parts.NextPart()
	if err == nil {
		err = json.NewDecoder(first).Decode(&about)
	}
	second, last := parts.NextPart()
	if err = errors.Join(err, last); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	g.objects[about.Name], _ = io.ReadAll(second)
	_ = json.NewEncoder(w).Encode(g.describe(about.Name))
}

func (g *google) describe(name string) map[string]any {
	sum := crc32.Checksum(g.objects[name], crc32.MakeTable(crc32.Castagnoli))
	now := time.Now().UTC().Format(time.RFC3339Nano)
	return map[string]any{
		"kind": "storage#object", "name": name, "bucket": "box", "size": fmt.Sprint(len(g.objects[name])), "updated": now, "timeCreated": now,
		"crc32c": base64.StdEncoding.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}),
	}
}

// proxy brings every connection to the server, whatever its name.
func proxy(t *testing.T, server string) string {
	t.Helper()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "only CONNECT", http.StatusBadRequest)
			return
		}
		back, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(back, conn); _ = back.Close() }()
		go func() { _, _ = io.Copy(conn, back); _ = conn.Close() }()
	}))
	t.Cleanup(front.Close)
	return front.URL
}

func accountKey(t *testing.T) map[string]string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"type": "service_account", "project_id": "project", "private_key_id": "1", "client_email": "godwit@project.iam.gserviceaccount.com",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": "https://oauth2.googleapis.com/token",
	}
}

func text(t *testing.T, key map[string]string) snapshot.Secret {
	t.Helper()
	raw, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Secret(raw)
}

// googleChild has the key that a process of its own probes by: a process learns of a
// proxy and of authorities only when it starts.
const googleChild = "GODWIT_TEST_GOOGLE"

// TestServiceAccount takes a service account's key to where Google gives tokens, and
// the token to its storage.
func TestServiceAccount(t *testing.T) {
	if raw := os.Getenv(googleChild); raw != "" {
		_, err := New().Probe(t.Context(), snapshot.Location{Type: snapshot.GCS, Bucket: "box", Prefix: "deep/", ServiceAccount: snapshot.Secret(raw)})
		fmt.Printf("probe: %v\n", err)
		return
	}
	g := &google{objects: map[string][]byte{}}
	server := httptest.NewUnstartedServer(g)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{googleCertificate(t)}}
	server.StartTLS()
	defer server.Close()
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.TLS.Certificates[0].Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	through := proxy(t, server.Listener.Addr().String())
	probe := func(key map[string]string) string {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestServiceAccount$")
		cmd.Env = append(os.Environ(), googleChild+"="+text(t, key).Reveal(), "HTTPS_PROXY="+through, "SSL_CERT_FILE="+authority, "SSL_CERT_DIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
			if said, ok := strings.CutPrefix(lines.Text(), "probe: "); ok {
				return said
			}
		}
		t.Fatalf("the probe said nothing: %s", out)
		return ""
	}
	key := accountKey(t)
	said := probe(key)
	asked, objects := g.seen()
	if said != "<nil>" {
		t.Errorf("%s; asked: %q", said, asked)
	}
	wrote := strings.Contains(strings.Join(asked, "\n"), "POST storage.googleapis.com/upload/storage/v1/b/box/o")
	if !wrote || objects > 0 {
		t.Errorf("it wrote: %v, and left %d objects: asked %q", wrote, objects, asked)
	}
	key["client_email"] = "another@project.iam.gserviceaccount.com"
	if said := probe(key); !strings.Contains(said, "the service account's key was refused by Google") || strings.Contains(said, "PRIVATE KEY") {
		t.Error(said)
	}
}

// TestServiceAccountAlone refuses what Google's client would take for credentials, and
// what would send them elsewhere.
func TestServiceAccountAlone(t *testing.T) {
	l := snapshot.Location{Type: snapshot.GCS, Bucket: "box", Password: "a long secret"}
	for want, change := range map[string]func(map[string]string){
		`of type "external_account"`: func(k map[string]string) { k["type"] = "external_account" },
		`of type "authorized_user"`:  func(k map[string]string) { k["type"] = "authorized_user" },
		"token_uri":                  func(k map[string]string) { k["token_uri"] = "https://thief.example.com/token" },
		"universe":                   func(k map[string]string) { k["universe_domain"] = "thief.example.com" },
		"no client_email":            func(k map[string]string) { delete(k, "private_key") },
	} {
		key := accountKey(t)
		change(key)
		bad := l
		bad.ServiceAccount = text(t, key)
		err := justProbe(t.Context(), New(), bad)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "PRIVATE KEY") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	bad := l
	bad.ServiceAccount = `{"hidden`
	if err := justProbe(t.Context(), New(), bad); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("no JSON: %v", err)
	}
}

// googleCertificate is for Google's names, and its own authority.
func googleCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"oauth2.googleapis.com", "storage.googleapis.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
