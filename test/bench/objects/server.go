package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"golang.org/x/sync/errgroup"

	"github.com/godwit-io/godwit/daemon/workload"
)

// seedsAtOnce is how many namespaces are made at once before anything is measured.
const seedsAtOnce = 8

// apiServer is etcd and a kube-apiserver, without controllers.
type apiServer struct {
	environment              *envtest.Environment
	client                   kubernetes.Interface
	dir, kubeconfig, kubectl string
}

// startServer runs the programs in the folder that GODWIT_KUBE_BIN names.
func startServer() (_ *apiServer, err error) {
	programs := os.Getenv("GODWIT_KUBE_BIN")
	if programs == "" {
		return nil, errors.New("the API server is missing: set GODWIT_KUBE_BIN to a folder with etcd, kube-apiserver and kubectl, or run make bench-objects")
	}
	s := &apiServer{kubectl: filepath.Join(programs, "kubectl")}
	s.environment = &envtest.Environment{BinaryAssetsDirectory: programs, ControlPlaneStartTimeout: 2 * time.Minute}
	config, err := s.environment.Start()
	if err != nil {
		return nil, fmt.Errorf("start etcd and kube-apiserver from %s: %w", programs, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	if s.client, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "godwit-bench-objects-"); err != nil {
		return nil, err
	}
	s.kubeconfig = filepath.Join(s.dir, "kubeconfig")
	return s, os.WriteFile(s.kubeconfig, s.environment.KubeConfig, 0o600)
}

func (s *apiServer) stop() error { return errors.Join(s.environment.Stop(), os.RemoveAll(s.dir)) }

// seed makes what is to be moved.
func (s *apiServer) seed(ctx context.Context, namespaces int) error {
	c, err := connect(s.kubeconfig)
	if err != nil {
		return err
	}
	var own unstructured.Unstructured
	own.SetAPIVersion("v1")
	own.SetKind("Namespace")
	own.SetName(journalNamespace)
	if err := create(ctx, c, &own); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(seedsAtOnce)
	for n := range namespaces {
		group.Go(func() error {
			objects, err := application(sourceOf(n))
			if err != nil {
				return err
			}
			for i := range objects {
				if err := create(ctx, c, &objects[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func create(ctx context.Context, c workload.Cluster, obj *unstructured.Unstructured) error {
	m, err := c.Mapper.RESTMapping(obj.GroupVersionKind().GroupKind(), obj.GroupVersionKind().Version)
	if err != nil {
		return err
	}
	var resource dynamic.ResourceInterface = c.Dynamic.Resource(m.Resource)
	if namespace := obj.GetNamespace(); namespace != "" {
		resource = c.Dynamic.Resource(m.Resource).Namespace(namespace)
	}
	_, err = resource.Create(ctx, obj, metav1.CreateOptions{FieldManager: "seed"})
	return err
}

// manifest is the file that kubectl applies: as many objects, in namespaces of its own.
func (s *apiServer) manifest(namespaces int) (string, error) {
	var all []unstructured.Unstructured
	for n := range namespaces {
		objects, err := application(kubectlOf(n))
		if err != nil {
			return "", err
		}
		all = append(all, objects...)
	}
	data, err := workload.Encode(all)
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.dir, "all.yaml")
	return path, os.WriteFile(path, data, 0o600)
}

// measure runs a program to its end.
func (s *apiServer) measure(ctx context.Context, args []string) (measured, error) {
	var m measured
	before, err := s.writes(ctx)
	if err != nil {
		return m, err
	}
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = &out, &said
	begun := time.Now()
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		return m, fmt.Errorf("%s: %w: %s", strings.Join(args[:2], " "), err, strings.Join(lines[max(0, len(lines)-5):], " | "))
	}
	m.Wall = time.Since(begun).Seconds()
	m.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.Memory = usage.Maxrss << 10
	}
	if args[1] == helperMove {
		m.Said = out.String()
	}
	after, err := s.writes(ctx)
	m.Writes = after - before
	return m, err
}

// writes counts the requests that changed something, by the server's own metrics.
// What it writes for itself, leases and the like, is not counted.
func (s *apiServer) writes(ctx context.Context) (int64, error) {
	text, err := s.client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the API server's metrics: %w", err)
	}
	var sum float64
	for line := range strings.Lines(string(text)) {
		labels, found := strings.CutPrefix(line, "apiserver_request_total{")
		if !found {
			continue
		}
		labels, number, _ := strings.Cut(labels, "} ")
		changes := false
		for _, verb := range []string{"POST", "PUT", "PATCH", "APPLY", "DELETE"} {
			changes = changes || strings.Contains(labels, `verb="`+verb+`"`)
		}
		own := strings.Contains(labels, `resource="leases"`) || strings.Contains(labels, `resource="events"`)
		if !changes || own || !strings.Contains(labels, `dry_run=""`) {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil {
			return 0, fmt.Errorf("read the API server's metrics: %w", err)
		}
		sum += n
	}
	return int64(sum), nil
}

// loadAverage is how many processes wanted to run, of late.
func loadAverage() (string, error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first, nil
}
