package scenario

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// TestGate: what is asked for is understood as the API server understands it, what
// is let through arrives, and what is refused does not.
func TestGate(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/absent") && r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.Header.Get("Authorization"), body)
	}))
	t.Cleanup(server.Close)
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: server.URL, CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})}
	config.Contexts["c"] = &clientcmdapi.Context{Cluster: "c"}
	config.CurrentContext = "c"
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		t.Fatal(err)
	}
	var asked []string
	gate, err := openGate(t.Context(), Cluster{Name: "c", Kubeconfig: kubeconfig}, "me", func(r Request) string {
		asked = append(asked, strings.Join([]string{r.Verb, r.Group, r.Resource, r.Namespace, r.Name}, ","))
		if r.Resource == "secrets" {
			return "because"
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(gate.CertificateAuthorityData)
	caller := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities}}}
	const apply, owner = "application/apply-patch+yaml", `{"metadata":{"ownerReferences":[{"apiVersion":"godwit.io/v1alpha1","kind":"Action","name":"a","blockOwnerDeletion":true}]}}`
	for _, c := range []struct {
		method, path, kind, body, want string
		code                           int
	}{
		{"GET", "/api", "", "", "", 200},
		{"GET", "/apis/apps/v1", "", "", "", 200},
		{"GET", "/api/v1/namespaces", "", "", "list,,namespaces,,", 200},
		{"GET", "/api/v1/namespaces/x", "", "", "get,,namespaces,,x", 200},
		{"GET", "/api/v1/pods?watch=true", "", "", "watch,,pods,,", 200},
		{"GET", "/api/v1/namespaces/x/secrets", "", "", "list,,secrets,x,", 403},
		{"POST", "/api/v1/namespaces/x/pods/p/exec", "", "", "create,,pods/exec,x,p", 200},
		{"PUT", "/apis/apps/v1/namespaces/x/deployments/d", "", "", "update,apps,deployments,x,d", 200},
		{"DELETE", "/apis/apps/v1/namespaces/x/deployments", "", "", "deletecollection,apps,deployments,x,", 200},
		{"DELETE", "/apis/apps/v1/namespaces/x/deployments/d", "", "", "delete,apps,deployments,x,d", 200},
		{"PATCH", "/apis/godwit.io/v1alpha1/namespaces/x/migrations/m/status", "application/merge-patch+json", "{}", "patch,godwit.io,migrations/status,x,m", 200},
		{"PATCH", "/api/v1/namespaces/x/pods/there", apply, "{}", "patch,,pods,x,there", 200},
		{"PATCH", "/api/v1/namespaces/x/pods/absent", apply, "{}", "patch,,pods,x,absent create,,pods,x,absent", 200},
		{"POST", "/apis/godwit.io/v1alpha1/namespaces/x/migrations", "", owner, "create,godwit.io,migrations,x, update,godwit.io,actions/finalizers,x,a", 200},
	} {
		asked = nil
		r, err := http.NewRequestWithContext(t.Context(), c.method, gate.Server+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "bearer x")
		r.Header.Set("Content-Type", c.kind)
		answer, err := caller.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if got := strings.Join(asked, " "); err != nil || got != c.want || answer.StatusCode != c.code {
			t.Errorf("%s %s: %q, %d, %v", c.method, c.path, got, answer.StatusCode, err)
		}
		if c.code == 200 && string(body) != "bearer x "+c.body || c.code == 403 && !strings.Contains(string(body), `secrets is forbidden: User \"system:serviceaccount:godwit-system:me\" cannot list resource \"secrets\" in API group \"\" in the namespace \"x\": because`) {
			t.Errorf("%s %s: %s", c.method, c.path, body)
		}
	}
}
