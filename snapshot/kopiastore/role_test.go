package kopiastore

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// TestRole takes keys as a container of AWS is given them, at an address that its
// environment names, and uses them with a real store.
func TestRole(t *testing.T) {
	l := snapshottest.StartObjectStore(t).Location(t, "role")
	var asked atomic.Int64
	given := map[string]string{
		"AccessKeyId": l.AccessKeyID, "SecretAccessKey": l.SecretAccessKey.Reveal(), "Expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
	}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_ = json.NewEncoder(w).Encode(given)
	}))
	defer service.Close()
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", service.URL)
	l.AccessKeyID, l.SecretAccessKey, l.Role = "", "", true
	if traits, err := New().Probe(t.Context(), l); err != nil || traits.ReadOnly {
		t.Fatalf("%+v, %v", traits, err)
	}
	r := open(t, New(), l)
	data := noise(3<<20, 1)
	image, _, err := backup(t, r, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, r, image.ID, data)
	if n := asked.Load(); n == 0 || n > 6 {
		t.Errorf("asked for keys %d times", n)
	}
	for name, c := range map[string]struct {
		change func(*snapshot.Location)
		want   string
	}{
		"keys too": {func(l *snapshot.Location) { l.AccessKeyID = "id" }, "leave one out"},
		"no role": {func(*snapshot.Location) {
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/")
		}, "no keys came of this machine's role: give a role"},
		"keys of nobody": {func(*snapshot.Location) {
			given["SecretAccessKey"] = "another"
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", service.URL)
		}, "the keys were refused by"},
	} {
		bad := l
		c.change(&bad)
		if err := justProbe(t.Context(), New(), bad); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestApplicationOfAzure says what is missing before Azure is asked.
func TestApplicationOfAzure(t *testing.T) {
	whole := snapshot.Location{
		Type: snapshot.Azure, Bucket: "box", AccessKeyID: "acc", Password: "a long secret",
		Application: snapshot.Application{TenantID: "dir", ClientID: "app", ClientSecret: "hidden"},
	}
	if err := check(whole); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*snapshot.Location){
		"give all three":         func(l *snapshot.Location) { l.Application.ClientSecret = "" },
		"leave one out":          func(l *snapshot.Location) { l.SecretAccessKey = "hidden" },
		"public cloud only":      func(l *snapshot.Location) { l.Endpoint = "blob.core.chinacloudapi.cn" },
		"the storage account is": func(l *snapshot.Location) { l.AccessKeyID = "" },
		"account's key is empty": func(l *snapshot.Location) { l.Application = snapshot.Application{} },
		"is not served for Azure": func(l *snapshot.Location) {
			l.Application, l.SecretAccessKey, l.SkipVerify = snapshot.Application{}, "key", true
		},
	} {
		bad := whole
		change(&bad)
		err := justProbe(t.Context(), New(), bad)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
