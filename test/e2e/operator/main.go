// Command operator is the operator of a story's application: it keeps a Redis for
// each Cache of its namespace, and answers for them as a validating webhook. It is
// as small as an operator can be and do both for real, with nothing but the rights
// of its service account.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	mounted    = "/var/run/secrets/kubernetes.io/serviceaccount/"
	mostMemory = 64
	again      = time.Second
)

// cache is the custom resource.
type cache struct {
	Metadata struct {
		Name            string `json:"name"`
		UID             string `json:"uid"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Spec struct {
		Megabytes int `json:"megabytes"`
	} `json:"spec"`
}

// apiServer is the cluster's, seen from a pod.
type apiServer struct {
	client    *http.Client
	namespace string
	image     string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "operator:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	authority, err := os.ReadFile(mounted + "ca.crt")
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	a := apiServer{
		client:    &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}},
		namespace: os.Getenv("NAMESPACE"), image: os.Getenv("IMAGE"),
	}
	served := make(chan error, 1)
	go func() {
		server := &http.Server{Addr: ":8443", Handler: http.HandlerFunc(review), ReadHeaderTimeout: again}
		served <- server.ListenAndServeTLS("/tls/tls.crt", "/tls/tls.key")
	}()
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		if err := a.keep(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "operator:", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			return err
		case <-tick.C:
		}
	}
}

// ask sends one request with the account's token, which kubelet changes in time.
func (a apiServer) ask(ctx context.Context, method, path, contentType string, body any) (*http.Response, error) {
	token, err := os.ReadFile(mounted + "token")
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	host := os.Getenv("KUBERNETES_SERVICE_HOST") + ":" + os.Getenv("KUBERNETES_SERVICE_PORT")
	request, err := http.NewRequestWithContext(ctx, method, "https://"+host+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	request.Header.Set("Content-Type", contentType)
	answer, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		said, err := io.ReadAll(answer.Body)
		return nil, errors.Join(fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, said), err, answer.Body.Close())
	}
	return answer, nil
}

// keep lists the Caches and follows what becomes of them until the server ends it.
func (a apiServer) keep(ctx context.Context) error {
	caches := "/apis/story.example.com/v1/namespaces/" + a.namespace + "/caches"
	answer, err := a.ask(ctx, http.MethodGet, caches, "application/json", nil)
	if err != nil {
		return err
	}
	var list struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Items []cache `json:"items"`
	}
	err = json.NewDecoder(answer.Body).Decode(&list)
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return err
	}
	for _, c := range list.Items {
		if err := a.serve(ctx, caches, c); err != nil {
			return err
		}
	}
	answer, err = a.ask(ctx, http.MethodGet, caches+"?watch=1&timeoutSeconds=60&resourceVersion="+list.Metadata.ResourceVersion, "application/json", nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // read only
	for events := json.NewDecoder(answer.Body); ; {
		var event struct {
			Type   string `json:"type"`
			Object cache  `json:"object"`
		}
		if err := events.Decode(&event); err != nil {
			return nil //nolint:nilerr // the watch is over, and the next list begins another
		}
		if event.Type == "ADDED" || event.Type == "MODIFIED" {
			if err := a.serve(ctx, caches, event.Object); err != nil {
				return err
			}
		}
	}
}

// serve has the Cache's Redis as it is to be, and says so in its status.
func (a apiServer) serve(ctx context.Context, caches string, c cache) error {
	name := "cache-" + c.Metadata.Name
	labels := map[string]any{"app": "cache", "cache": c.Metadata.Name}
	deployment := map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": name, "ownerReferences": []any{map[string]any{
			"apiVersion": "story.example.com/v1", "kind": "Cache", "name": c.Metadata.Name, "uid": c.Metadata.UID, "controller": true,
		}}},
		"spec": map[string]any{"selector": map[string]any{"matchLabels": labels}, "template": map[string]any{
			"metadata": map[string]any{"labels": labels},
			"spec": map[string]any{"terminationGracePeriodSeconds": 0, "containers": []any{map[string]any{
				"name": "redis", "image": a.image, "imagePullPolicy": "IfNotPresent",
				"command": []any{"redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--maxmemory", fmt.Sprintf("%dmb", c.Spec.Megabytes)},
			}}},
		}},
	}
	if err := a.apply(ctx, "/apis/apps/v1/namespaces/"+a.namespace+"/deployments/"+name, deployment); err != nil {
		return err
	}
	return a.apply(ctx, caches+"/"+c.Metadata.Name+"/status", map[string]any{
		"apiVersion": "story.example.com/v1", "kind": "Cache", "metadata": map[string]any{"name": c.Metadata.Name},
		"status": map[string]any{"served": true},
	})
}

func (a apiServer) apply(ctx context.Context, path string, object any) error {
	answer, err := a.ask(ctx, http.MethodPatch, path+"?fieldManager=operator&force=true", "application/apply-patch+yaml", object)
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// review is the webhook: a Cache has its bounds.
func review(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Request    struct {
			UID    string `json:"uid"`
			Object cache  `json:"object"`
		} `json:"request"`
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	response := map[string]any{"uid": asked.Request.UID, "allowed": true}
	if n := asked.Request.Object.Spec.Megabytes; n < 1 || n > mostMemory {
		response["allowed"] = false
		response["status"] = map[string]any{"message": fmt.Sprintf("a Cache has 1 to %d megabytes, not %d", mostMemory, n)}
	}
	w.Header().Set("Content-Type", "application/json")
	err := json.NewEncoder(w).Encode(map[string]any{"apiVersion": asked.APIVersion, "kind": asked.Kind, "response": response})
	if err != nil {
		fmt.Fprintln(os.Stderr, "operator:", err)
	}
}
