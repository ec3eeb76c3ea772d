package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// testRotatedAtOnce has somebody else ask for a new password after the command has
// read the pair, and before it asks for a new sealing key: both are asked for then.
func (c *cluster) testRotatedAtOnce(t *testing.T) {
	pair := &api.ClusterPair{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "rotated"}}
	c.create(t, pair)
	ask := func(words any) error {
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%v}}}`, api.AnnotationRotate, words)
		return c.client.Patch(t.Context(), pair.DeepCopy(), client.RawPatch("application/merge-patch+json", patch))
	}
	var mu sync.Mutex
	asked, patches := "", 0
	between := func(forward http.Handler) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPatch {
				forward.ServeHTTP(w, r)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if patches++; patches == 1 {
				if err := ask(`"password"`); err != nil {
					t.Error(err)
				}
			}
			forward.ServeHTTP(w, r)
			var now api.ClusterPair
			if err := c.client.Get(t.Context(), client.ObjectKeyFromObject(pair), &now); err != nil {
				t.Error(err)
			}
			// As the controller does when it has replaced the key.
			if words := now.Annotations[api.AnnotationRotate]; strings.Contains(words, api.RotateSealingKey) {
				asked = words
				if err := ask("null"); err != nil {
					t.Error(err)
				}
			}
		}
	}
	got := runIn(t, "", nil, "godwitctl", "--kubeconfig", c.fronted(t, between), "-n", "cms", "rotate", "sealingkey", "rotated")
	if got.code != 0 || got.out != "ClusterPair rotated has a new key that seals its recovery points\n" {
		t.Errorf("exit code %d: %s%s", got.code, got.out, got.err)
	}
	mu.Lock()
	defer mu.Unlock()
	if asked != "password,sealing-key" || patches != 2 {
		t.Errorf("after %d requests %q is asked for", patches, asked)
	}
	if err := c.client.Delete(t.Context(), pair); err != nil {
		t.Error(err)
	}
}

// fronted is a kubeconfig for the cluster with a handler in front of its API server.
func (c *cluster) fronted(t *testing.T, wrap func(http.Handler) http.HandlerFunc) string {
	t.Helper()
	server, err := url.Parse(c.environ.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	if server.Scheme == "" || server.Host == "" {
		server = &url.URL{Scheme: "https", Host: c.environ.Config.Host}
	}
	transport, err := rest.TransportFor(c.environ.Config)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(wrap(&httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(server) },
		Transport:     transport,
		FlushInterval: -1,
	}))
	t.Cleanup(front.Close)
	text := "apiVersion: v1\nkind: Config\ncurrent-context: front\ncontexts: [{name: front, context: {cluster: front}}]\nclusters: [{name: front, cluster: {server: \"" + front.URL + "\"}}]\n"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
