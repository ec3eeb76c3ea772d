package scenario

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// shortestSecret is the shortest value that is looked for: shorter ones turn up
// by chance.
const shortestSecret = 12

// notSecret are the keys of Secrets whose values may be told.
func notSecret(key string) bool {
	return slices.Contains([]string{
		"record", "certificate", "type", "endpoint", "bucket", "prefix", "path", "region", "accessKeyID", "caBundle",
		"disableTLS", "skipVerify", "storageClass", "encryption", "objects.yaml.gz", "pieces", "issuer", "ca.crt", "namespace",
	}, key)
}

// Leaks looks for every secret that both clusters hold, plain and encoded, in
// all that Godwit said: its daemons' logs, all events, and its objects as kubectl
// shows them. It counts what it looked through, since nothing found in nothing
// says nothing.
func (g *Ground) Leaks(ctx context.Context) (found []string, secrets, bytes int, err error) {
	said := map[string]string{}
	for _, c := range []Cluster{g.Source, g.Target} {
		if err := g.listen(ctx, c, said); err != nil {
			return nil, 0, 0, err
		}
	}
	for _, text := range said {
		bytes += len(text)
	}
	found, secrets, err = g.LeaksIn(ctx, said)
	return found, secrets, bytes, err
}

// LeaksIn looks for every secret that both clusters hold, plain and encoded, in
// what was said, by where it was said, and tells how many it looked for.
func (g *Ground) LeaksIn(ctx context.Context, said map[string]string) (found []string, secrets int, err error) {
	hidden := map[string]string{}
	for _, c := range []Cluster{g.Source, g.Target} {
		if err := hold(ctx, c, hidden); err != nil {
			return nil, 0, err
		}
	}
	for where, text := range said {
		for value, what := range hidden {
			for _, form := range forms(value) {
				if strings.Contains(text, form) {
					found = append(found, fmt.Sprintf("%s shows %s", where, what))
					break
				}
			}
		}
	}
	slices.Sort(found)
	return found, len(hidden), nil
}

// forms are how a value may be written.
func forms(value string) []string {
	raw := []byte(value)
	return []string{
		value, hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw),
		base64.URLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw), fmt.Sprintf("%d", raw),
	}
}

// hold gathers a cluster's secrets: the values of Secrets, and tokens.
func hold(ctx context.Context, c Cluster, hidden map[string]string) error {
	all, err := Get[corev1.SecretList](ctx, c, "-A", "secrets")
	if err != nil {
		return err
	}
	for _, s := range all.Items {
		for key, value := range s.Data {
			if text := strings.TrimSpace(string(value)); len(text) >= shortestSecret && !notSecret(key) {
				hidden[text] = fmt.Sprintf("%s of Secret %s/%s of %s", key, s.Namespace, s.Name, c.Name)
			}
		}
	}
	pairs, err := Get[api.ClusterPairList](ctx, c, "-A", "clusterpairs.godwit.io")
	if err != nil {
		return err
	}
	for _, p := range pairs.Items {
		if token := p.Spec.Options[api.OptionToken]; token != "" {
			hidden[token] = fmt.Sprintf("the token of ClusterPair %s/%s of %s", p.Namespace, p.Name, c.Name)
		}
	}
	return nil
}

// listen gathers what a cluster's daemons said.
func (g *Ground) listen(ctx context.Context, c Cluster, said map[string]string) error {
	b, err := g.sandbox.beside(ctx, c.Name)
	if err != nil {
		return err
	}
	logs, err := filepath.Glob(filepath.Join(b.Logs, "godwitd-*.log"))
	if err != nil {
		return err
	}
	for _, file := range logs {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		said[filepath.Base(file)+" of "+c.Name] = string(text)
	}
	if said["events of "+c.Name], err = c.Kubectl(ctx, "get", "-A", "events.events.k8s.io", "-o", "yaml"); err != nil {
		return err
	}
	kinds, err := c.Kubectl(ctx, "api-resources", "--api-group", "godwit.io", "-o", "name")
	if err != nil {
		return err
	}
	for _, kind := range append(strings.Fields(kinds), "configmaps", "pods") {
		out, err := c.Kubectl(ctx, "get", "-A", kind, "-o", "json", "--show-managed-fields")
		if err != nil {
			return err
		}
		if said[kind+" of "+c.Name], err = withoutTokens(out); err != nil {
			return err
		}
	}
	return nil
}

// withoutTokens takes away where a ClusterPair has its token from its owner: it
// is spent, and no word of Godwit's.
func withoutTokens(list string) (string, error) {
	var all map[string]any
	if err := json.Unmarshal([]byte(list), &all); err != nil {
		return "", fmt.Errorf("read what kubectl printed: %w", err)
	}
	items, _ := all["items"].([]any)
	for _, item := range items {
		object, _ := item.(map[string]any)
		if object["kind"] != "ClusterPair" {
			continue
		}
		spec, _ := object["spec"].(map[string]any)
		options, _ := spec["options"].(map[string]any)
		delete(options, api.OptionToken)
	}
	out, err := json.Marshal(all)
	return string(out), err
}
