package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Sandbox makes clusters on this machine, by the sandbox's program.
type Sandbox struct {
	// Program is bin/sandbox, Sources the folder that it finds its sources in.
	Program, Sources string
	// Dir keeps the sandbox's state; empty is the sandbox's own default.
	Dir string
	// ControlPlane has clusters without containers, which need no root.
	ControlPlane bool
	// Log gets the sandbox's progress.
	Log io.Writer
}

func (s Sandbox) args(args []string) []string {
	if s.Sources != "" {
		args = append([]string{"--source", s.Sources}, args...)
	}
	if s.Dir != "" {
		args = append([]string{"--dir", s.Dir}, args...)
	}
	return args
}

func (s Sandbox) run(ctx context.Context, args ...string) (string, error) {
	out, err := command{}.run(ctx, s.Program, s.args(args)...)
	return strings.TrimSpace(string(out)), err
}

func (s Sandbox) show(ctx context.Context, args ...string) error {
	_, err := command{shown: s.Log}.run(ctx, s.Program, s.args(args)...)
	return err
}

// Up brings the clusters and the object store up; what is up stays as it is.
func (s Sandbox) Up(ctx context.Context, names ...string) ([]Cluster, error) {
	args := []string{"up", "--clusters", strings.Join(names, ",")}
	if s.ControlPlane {
		args = append(args, "--control-plane")
	}
	if err := s.show(ctx, args...); err != nil {
		return nil, err
	}
	clusters := make([]Cluster, 0, len(names))
	for _, name := range names {
		kubeconfig, err := s.run(ctx, "kubeconfig", "--path", name)
		if err != nil {
			return nil, err
		}
		kubectl, err := s.run(ctx, "shell", name, "--", "sh", "-c", "command -v kubectl")
		if err != nil {
			return nil, fmt.Errorf("find kubectl: %w", err)
		}
		c, err := newCluster(name, kubeconfig, kubectl)
		if err != nil {
			return nil, err
		}
		clusters = append(clusters, c)
	}
	return clusters, nil
}

// Able says what keeps this machine from running nodes with containers.
func (s Sandbox) Able(ctx context.Context) error {
	_, err := s.run(ctx, "able")
	if err == nil || ctx.Err() != nil {
		return err
	}
	_, said, found := strings.Cut(err.Error(), ": sandbox: ")
	if !found {
		return err
	}
	return errors.New(said)
}

// Load gives image archives to every node of the clusters.
func (s Sandbox) Load(ctx context.Context, clusters []string, archives ...string) error {
	return s.show(ctx, append([]string{"load", "--clusters", strings.Join(clusters, ",")}, archives...)...)
}

// Purge ends the clusters, all of the sandbox's if none is named, and removes
// their state.
func (s Sandbox) Purge(ctx context.Context, names ...string) error {
	return s.show(ctx, append([]string{"down", "--purge"}, names...)...)
}

// ObjectStore is where volumes go through.
func (s Sandbox) ObjectStore(ctx context.Context) (ObjectStore, error) {
	out, err := s.run(ctx, "s3", "-o", "json")
	if err != nil {
		return ObjectStore{}, err
	}
	var store ObjectStore
	if err := json.Unmarshal([]byte(out), &store); err != nil {
		return ObjectStore{}, fmt.Errorf("sandbox s3: %w", err)
	}
	return store, nil
}

// ObjectStore is an S3 bucket and the keys to it.
type ObjectStore struct {
	Endpoint  string `json:"endpoint"`
	Bucket    string `json:"bucket"`
	Region    string `json:"region"`
	AccessKey string `json:"accessKey"`
	SecretKey string `json:"secretKey"`
	// CAFile holds the authority of the store's certificate; empty for public ones.
	CAFile string `json:"caFile"`
}

// String leaves the secret out.
func (o ObjectStore) String() string {
	return fmt.Sprintf("bucket %s at %s", o.Bucket, o.Endpoint)
}

// ObjectStoreFromEnv takes the variables that `sandbox s3` prints.
func ObjectStoreFromEnv(getenv func(string) string) (ObjectStore, error) {
	o := ObjectStore{
		Endpoint: getenv("S3_ENDPOINT"), Bucket: getenv("S3_BUCKET"), Region: getenv("S3_REGION"),
		AccessKey: getenv("S3_ACCESS_KEY"), SecretKey: getenv("S3_SECRET_KEY"), CAFile: getenv("S3_CA_FILE"),
	}
	if o.Bucket == "" || o.AccessKey == "" || o.SecretKey == "" {
		return o, errors.New("two clusters of your own need an object store: set S3_BUCKET, S3_ACCESS_KEY and S3_SECRET_KEY, and as needed S3_ENDPOINT, S3_REGION and S3_CA_FILE")
	}
	return o, nil
}

// Root finds the repository that the working folder is in.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module github.com/godwit-io/godwit\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not in Godwit's repository: change to its folder first")
		}
		dir = parent
	}
}
