// Package objectstore runs the sandbox's S3 server: versitygw over a folder, with TLS, keys made
// once, and one bucket. Keys and objects survive restarts; the process belongs to the host, so that
// clusters come and go beside it.
package objectstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/godwit-io/godwit/test/sandbox/internal/node"
	"github.com/godwit-io/godwit/test/sandbox/internal/pki"
	"github.com/godwit-io/godwit/test/sandbox/internal/process"
)

// Bucket is the bucket that is always there.
const Bucket = "godwit"

// Region is what versitygw calls itself, and what requests must be signed for.
const Region = "us-east-1"

// Store is the object store of one sandbox.
type Store struct {
	Dir     string
	Address string // host:port
	Program string // versitygw; needed to start it
}

// Access is what a client needs.
type Access struct {
	Endpoint  string `json:"endpoint"`
	Bucket    string `json:"bucket"`
	Region    string `json:"region"`
	AccessKey string `json:"accessKey"`
	SecretKey Secret `json:"secretKey"`
	CAFile    string `json:"caFile"`
}

// Secret is shown only where it is asked for by name or in JSON.
type Secret string

func (Secret) String() string { return "(secret)" }

// LogValue keeps the secret out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Start starts the store unless it runs, and returns when it answers.
func (s Store) Start(ctx context.Context) error {
	id, err := process.Load(s.pidFile())
	if err != nil {
		return err
	}
	if !id.Alive() {
		if err := s.launch(ctx); err != nil {
			return fmt.Errorf("object store: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := (node.Probe{URL: "https://" + s.Address + healthPath}).Wait(ctx); err != nil {
		return fmt.Errorf("object store: %w; see %s", err, s.logFile())
	}
	return nil
}

const healthPath = "/sandbox-health"

func (s Store) launch(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(s.Dir, "data", Bucket), 0o700); err != nil {
		return err
	}
	access, err := s.ensureAccess(time.Now())
	if err != nil {
		return err
	}
	out, err := os.Create(s.logFile())
	if err != nil {
		return err
	}
	defer out.Close() //nolint:errcheck // the child has its own copy
	// Not CommandContext: the store outlives the program that starts it.
	cmd := exec.Command(s.Program, "--port", s.Address, //nolint:noctx // our own program
		"--cert", filepath.Join(s.Dir, "pki", "server.crt"), "--key", filepath.Join(s.Dir, "pki", "server.key"),
		"--region", Region, "--health", healthPath, "--quiet",
		"posix", filepath.Join(s.Dir, "data"))
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, "/"
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+access.AccessKey, "ROOT_SECRET_KEY="+string(access.SecretKey))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait() //nolint:errcheck // collected if it ends while this program runs
	id, err := process.Of(cmd.Process.Pid)
	if err != nil {
		return err
	}
	return id.Save(s.pidFile())
}

// Running reports whether the store's process lives.
func (s Store) Running() bool {
	id, err := process.Load(s.pidFile())
	return err == nil && id.Alive()
}

// Stop ends the store; its objects stay.
func (s Store) Stop(ctx context.Context) error {
	id, err := process.Load(s.pidFile())
	if err != nil {
		return err
	}
	if err := id.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	polite, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if id.WaitGone(polite) != nil {
		if err := id.Kill(ctx); err != nil {
			return fmt.Errorf("object store: %w", err)
		}
	}
	if err := os.Remove(s.pidFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Access reads endpoint and keys.
func (s Store) Access() (Access, error) {
	b, err := os.ReadFile(s.accessFile())
	if errors.Is(err, fs.ErrNotExist) {
		return Access{}, errors.New("the object store was never started: run sandbox up")
	}
	if err != nil {
		return Access{}, err
	}
	var a Access
	if err := json.Unmarshal(b, &a); err != nil {
		return Access{}, fmt.Errorf("%s: %w", s.accessFile(), err)
	}
	return a, nil
}

// ensureAccess makes certificate and keys once; the endpoint follows the address.
func (s Store) ensureAccess(now time.Time) (Access, error) {
	ca, err := pki.EnsureAuthority(filepath.Join(s.Dir, "pki"), "ca", "sandbox-object-store-ca", now)
	if err != nil {
		return Access{}, err
	}
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil {
		return Access{}, err
	}
	if _, err := ca.Ensure(pki.Subject{File: "server", CommonName: "sandbox-object-store", Names: []string{host, "127.0.0.1", "localhost"}}, now); err != nil {
		return Access{}, err
	}
	a, err := s.Access()
	if err != nil {
		a = Access{AccessKey: "GODWIT" + random(7), SecretKey: Secret(random(20))}
	}
	a.Endpoint, a.Bucket, a.Region = "https://"+s.Address, Bucket, Region
	a.CAFile = filepath.Join(s.Dir, "pki", "ca.crt")
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return Access{}, err
	}
	return a, os.WriteFile(s.accessFile(), append(b, '\n'), 0o600)
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, it says
	return hex.EncodeToString(b)
}

func (s Store) accessFile() string { return filepath.Join(s.Dir, "access.json") }
func (s Store) pidFile() string    { return filepath.Join(s.Dir, "process.json") }
func (s Store) logFile() string    { return filepath.Join(s.Dir, "versitygw.log") }
