package scenario

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Request is what one of Godwit's daemons asks of a cluster's API server, in the
// words of RBAC.
type Request struct {
	Cluster, Account                       string
	Verb, Group, Resource, Namespace, Name string
}

// Refuse is asked about each request, and says why it is refused; empty lets it through.
type Refuse func(Request) string

// gate stands between one daemon and its API server, and refuses requests in the
// server's words. It holds no keys but for looking whether an object is there.
type gate struct {
	cluster, account string
	refuse           Refuse
	server           *url.URL
	proxy            *httputil.ReverseProxy
	admin            *http.Client
}

// openGates opens one for each of Godwit's service accounts, where requests are
// asked about, and gives the way to them by account.
func (g *Ground) openGates(ctx context.Context, c Cluster) (map[string]*clientcmdapi.Cluster, error) {
	gates := map[string]*clientcmdapi.Cluster{}
	if g.refuse == nil {
		return gates, nil
	}
	for _, account := range []string{ControllerAccount, NodeAccount} {
		way, err := openGate(ctx, c, account, g.refuse)
		if err != nil {
			return nil, err
		}
		gates[account] = way
	}
	return gates, nil
}

// openGate listens until the context ends, and returns what to give the daemon.
func openGate(ctx context.Context, c Cluster, account string, refuse Refuse) (*clientcmdapi.Cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	server, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	admin, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	// The daemon shows a token of its own; only the authority is the admin's.
	trust, err := rest.TLSConfigFor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: config.CAData, CAFile: config.CAFile}})
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	g := &gate{cluster: c.Name, account: account, refuse: refuse, server: server, admin: admin}
	g.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(server) },
		// HTTP/1.1 alone: commands in pods change the protocol of a connection.
		Transport:     &http.Transport{TLSClientConfig: trust, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}, MaxIdleConnsPerHost: 100},
		FlushInterval: -1,
	}
	// With TLS, since tokens are shown to no others.
	serving := httptest.NewUnstartedServer(g)
	serving.Config.ErrorLog = log.New(io.Discard, "", 0)
	serving.StartTLS()
	context.AfterFunc(ctx, func() {
		serving.CloseClientConnections()
		serving.Close()
	})
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: serving.Certificate().Raw})
	return &clientcmdapi.Cluster{Server: serving.URL, CertificateAuthorityData: authority}, nil
}

// ServeHTTP is http.Handler's.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	asked, err := g.asked(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	for _, one := range asked {
		if why := g.refuse(one); why != "" {
			g.forbid(w, one, why)
			return
		}
	}
	g.proxy.ServeHTTP(w, r)
}

// forbid is what the API server says to whom it does not let.
func (g *gate) forbid(w http.ResponseWriter, r Request, why string) {
	resource := r.Resource
	if r.Group != "" {
		resource, _, _ = strings.Cut(r.Resource, "/")
		resource += "." + r.Group
	}
	subject := fmt.Sprintf("%s %q", resource, r.Name)
	if r.Name == "" {
		subject = resource
	}
	message := fmt.Sprintf("%s is forbidden: User %q cannot %s resource %q in API group %q", subject,
		"system:serviceaccount:"+Namespace+":"+r.Account, r.Verb, r.Resource, r.Group)
	if r.Namespace != "" {
		message += fmt.Sprintf(" in the namespace %q", r.Namespace)
	} else {
		message += " at the cluster scope"
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusForbidden)
	_ = json.NewEncoder(w).Encode(metav1.Status{ // the daemon has gone, or will hear it
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: http.StatusForbidden,
		Reason: metav1.StatusReasonForbidden, Message: message + ": " + why,
		Details: &metav1.StatusDetails{Name: r.Name, Group: r.Group, Kind: r.Resource},
	})
}

// asked is what the request needs a right for: what it says, and what the server
// asks about besides. None for what is not about objects, such as discovery.
func (g *gate) asked(r *http.Request) ([]Request, error) {
	one, ok := parseRequest(r)
	if !ok {
		return nil, nil
	}
	one.Cluster, one.Account = g.cluster, g.account
	asked := []Request{one}
	switch {
	case one.Verb == "patch" && strings.HasPrefix(r.Header.Get("Content-Type"), "application/apply-patch"):
		there, err := g.there(r.Context(), r.URL.Path)
		if err != nil {
			return nil, err
		}
		if !there {
			created := one
			created.Verb = "create"
			asked = append(asked, created)
		}
	case one.Verb == "create" && r.Body != nil && !strings.Contains(one.Resource, "/"):
		owners, err := blocking(r)
		if err != nil {
			return nil, err
		}
		for _, o := range owners {
			o.Cluster, o.Account, o.Namespace = one.Cluster, one.Account, one.Namespace
			asked = append(asked, o)
		}
	}
	return asked, nil
}

// there tells whether the object is there that an apply would otherwise create.
func (g *gate) there(ctx context.Context, path string) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, g.server.JoinPath(path).String(), nil)
	if err != nil {
		return false, err
	}
	answer, err := g.admin.Do(request)
	if err != nil {
		return false, err
	}
	_, copied := io.Copy(io.Discard, answer.Body)
	return answer.StatusCode == http.StatusOK, errors.Join(copied, answer.Body.Close())
}

// blocking is what OwnerReferencesPermissionEnforcement asks for, which OpenShift
// has: to hold up an owner's end needs its finalizers.
func blocking(r *http.Request) ([]Request, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var object metav1.PartialObjectMetadata
	if json.Unmarshal(body, &object) != nil {
		return nil, nil // protobuf: Godwit's own kinds, which own things, have none
	}
	var asked []Request
	for _, o := range object.OwnerReferences {
		if o.BlockOwnerDeletion == nil || !*o.BlockOwnerDeletion {
			continue
		}
		group, _, _ := strings.Cut(o.APIVersion, "/")
		asked = append(asked, Request{Verb: "update", Group: group, Resource: strings.ToLower(o.Kind) + "s/finalizers", Name: o.Name})
	}
	return asked, nil
}

// parseRequest reads /api/v1/… and /apis/GROUP/VERSION/… as the API server does.
func parseRequest(r *http.Request) (Request, bool) {
	var one Request
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		one.Group, parts = parts[1], parts[3:]
	default:
		return one, false
	}
	if parts[0] == "namespaces" && len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
		one.Namespace, parts = parts[1], parts[2:]
	}
	one.Resource = parts[0]
	if len(parts) > 1 {
		one.Name = parts[1]
	}
	if len(parts) > 2 {
		one.Resource += "/" + parts[2]
	}
	one.Verb = verbOf(r.Method, one.Name != "", r.URL.Query())
	return one, true
}

func verbOf(method string, named bool, query url.Values) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if !named {
			return "deletecollection"
		}
		return "delete"
	}
	switch watch := query.Get("watch"); {
	case watch == "true" || watch == "1":
		return "watch"
	case named:
		return "get"
	}
	return "list"
}
