package cli

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestVolumeInAzure has a container that is not there: what is asked is where --repo says,
// and signed with the account's key.
func TestVolumeInAzure(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		signer, _, _ := strings.Cut(r.Header.Get("Authorization"), ":")
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, signer+" "+r.URL.Path+" "+r.FormValue("prefix"))
		w.Header().Set("X-Ms-Error-Code", "ContainerNotFound")
		w.WriteHeader(http.StatusNotFound)
	}))
	defer store.Close()
	p := inFolder(t, buildProgram(t))
	p.repo = "azure://box/deep"
	p.refuse(t, "set AZURE_STORAGE_ACCOUNT, and AZURE_STORAGE_KEY or", "list")
	p.env = append(p.env, "AZURE_STORAGE_ACCOUNT=127")
	p.refuse(t, "set AZURE_STORAGE_ACCOUNT, and AZURE_STORAGE_KEY or", "list")
	p.env = append(p.env, "AZURE_CLIENT_ID=app")
	p.refuse(t, "give all three, or the account's key", "list")
	p.env = append(p.env, "AZURE_STORAGE_KEY="+base64.StdEncoding.EncodeToString([]byte("a key for tests only")))
	p.refuse(t, "--region is not for Azure's store", "list", "--region", "here")
	p.refuse(t, "--ca-file is not for Azure's store", "list", "--ca-file", "ca.pem")
	// The account is the first part of the host's name.
	p.refuse(t, `container "box" does not exist in account "127"`, "list", "--endpoint", strings.Replace(store.URL, "127.", "", 1))
	mu.Lock()
	defer mu.Unlock()
	if len(asked) == 0 || !strings.HasPrefix(asked[0], "SharedKey 127 /box deep/") {
		t.Errorf("asked was %q", asked)
	}
}

// TestVolumeInGoogle has a key that would be sent to whom it names.
func TestVolumeInGoogle(t *testing.T) {
	t.Parallel()
	p := inFolder(t, buildProgram(t))
	p.repo = "gs://box/deep"
	p.refuse(t, "set GOOGLE_APPLICATION_CREDENTIALS to its file", "list")
	p.env = append(p.env, "GOOGLE_APPLICATION_CREDENTIALS="+filepath.Join(t.TempDir(), "nothere"))
	p.refuse(t, "GOOGLE_APPLICATION_CREDENTIALS: open ", "list")
	p.env = append(p.env, "GOOGLE_APPLICATION_CREDENTIALS="+serviceAccount(t, "https://example.com/token"))
	for _, flag := range []string{"--endpoint", "--region", "--ca-file"} {
		p.refuse(t, flag+" is not for Google's store", "list", flag, "x")
	}
	p.refuse(t, `box/deep/ at Google's cloud storage: the service account's key has token_uri "https://example.com/token"`, "list")
	p.repo = "file://" + t.TempDir()
	p.refuse(t, "--endpoint is not for a folder", "list", "--endpoint", "x")
}

// serviceAccount is a file as Google gives one.
func serviceAccount(t *testing.T, tokens string) (file string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	secret := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "godwit@project.iam.gserviceaccount.com", "private_key": string(secret), "token_uri": tokens,
	})
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "account.json")
	write(t, file, account)
	return file
}
