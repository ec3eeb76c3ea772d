package program

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Builder builds sets from source into cache and tells progress.
type Builder struct {
	Source, Cache string
	Progress      io.Writer
}

// Programs are built programs by name.
type Programs map[string]string

// kubeNames are the programs within the one named kube; it looks at the name it is called by.
func kubeNames() []string {
	return []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"}
}

// All builds what the cache lacks and returns every program's path.
func (b Builder) All(ctx context.Context) (Programs, error) {
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, filepath.Join(b.Cache, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	programs := Programs{}
	for _, s := range Sets() {
		dir, err := b.ensure(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("build %s: %w", s.Name, err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			programs[e.Name()] = filepath.Join(dir, e.Name())
		}
	}
	return programs, nil
}

// CRDs lists the folders of the CustomResourceDefinitions that the sidecars' modules bring.
func (b Builder) CRDs(ctx context.Context) ([]string, error) {
	var dirs []string
	for _, module := range []string{
		"github.com/kubernetes-csi/external-snapshotter/client/v8",
		"github.com/kubernetes-csi/external-snapshot-metadata/client",
	} {
		out, err := b.run(ctx, "programs/csi", "mod", "download", "-json", module)
		if err != nil {
			return nil, err
		}
		dir := ""
		for _, line := range strings.Split(out, "\n") {
			if _, value, ok := strings.Cut(line, `"Dir": "`); ok {
				dir = strings.TrimRight(value, `",`)
			}
		}
		if dir == "" {
			return nil, fmt.Errorf("module %s has no folder in the module cache", module)
		}
		dirs = append(dirs, filepath.Join(dir, "config", "crd"))
	}
	return dirs, nil
}

// ensure returns the folder of the set's programs, built if need be.
func (b Builder) ensure(ctx context.Context, s Set) (string, error) {
	key, err := s.key(b.Source)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.Cache, key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	tmp, err := os.MkdirTemp(b.Cache, "."+s.Name+"-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // gone when all went well
	if err := b.build(ctx, s, tmp); err != nil {
		return "", err
	}
	if s.Name == "kube" {
		for _, n := range kubeNames() {
			if err := os.Symlink("kube", filepath.Join(tmp, n)); err != nil {
				return "", err
			}
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	return dir, os.Rename(tmp, dir)
}

func (b Builder) build(ctx context.Context, s Set, out string) error {
	began := time.Now()
	fmt.Fprintf(b.Progress, "building %s: looking what is to be compiled\n", s.Name)
	args := append([]string{"list", "-deps", "-trimpath", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}"}, s.Packages...)
	stale, err := b.run(ctx, s.Dir, args...)
	if err != nil {
		return err
	}
	target := out + "/"
	if s.ownCode() {
		target = filepath.Join(out, s.Name)
	}
	args = append([]string{"build", "-v", "-trimpath", "-ldflags", "-s -w" + s.LDFlags, "-o", target}, s.Packages...)
	cmd := b.command(ctx, s.Dir, args...)
	messages, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	other := b.follow(s.Name, messages, len(strings.Fields(stale)))
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("go build in %s: %w\n%s", s.Dir, err, other)
	}
	fmt.Fprintf(b.Progress, "building %s: done in %s\n", s.Name, time.Since(began).Round(time.Second))
	return nil
}

// follow counts the compiled packages that go build -v names and returns its other lines.
func (b Builder) follow(name string, messages io.Reader, total int) string {
	var other strings.Builder
	began := time.Now()
	shown := began
	done := 0
	lines := bufio.NewScanner(messages)
	for lines.Scan() {
		line := lines.Text()
		if strings.ContainsAny(line, " :") {
			if !strings.HasPrefix(line, "go: downloading") {
				fmt.Fprintln(&other, line)
			}
			continue
		}
		done++
		if time.Since(shown) < 5*time.Second || done > total {
			continue
		}
		shown = time.Now()
		left := time.Duration(float64(time.Since(began)) / float64(done) * float64(total-done))
		fmt.Fprintf(b.Progress, "building %s: %d of %d packages, about %s left\n", name, done, total, left.Round(5*time.Second))
	}
	return other.String()
}

func (b Builder) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(b.Source, dir)
	// GOFLAGS and GOWORK of the caller would change what is built under the same key.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	return cmd
}

func (b Builder) run(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := b.command(ctx, dir, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go %s in %s: %w: %s", args[0], dir, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// lock keeps two first uses from building the same at once.
func lock(ctx context.Context, file string) (func(), error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return func() { _ = f.Close() }, nil
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("another sandbox builds into %s: %w", filepath.Dir(file), ctx.Err())
		case <-tick.C:
		}
	}
}

// Dir is the folder of a set's programs if they are built.
func (b Builder) Dir(set string) (string, error) {
	for _, s := range Sets() {
		if s.Name != set {
			continue
		}
		key, err := s.key(b.Source)
		if err != nil {
			return "", err
		}
		dir := filepath.Join(b.Cache, key)
		_, err = os.Stat(dir)
		return dir, err
	}
	return "", fmt.Errorf("no programs are named %s", set)
}
