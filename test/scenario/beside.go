package scenario

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"
)

// beside is what programs need that run beside a cluster without containers.
type beside struct {
	NodeName   string `json:"nodeName"`
	KubeletDir string `json:"kubeletDir"`
	Dir        string `json:"dir"`
	Logs       string `json:"logs"`
	// Ports are free ones of 127.0.0.1.
	Ports []int `json:"ports"`
}

func (s Sandbox) beside(ctx context.Context, cluster string) (beside, error) {
	var b beside
	out, err := s.run(ctx, "beside", cluster)
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal([]byte(out), &b); err != nil {
		return b, fmt.Errorf("sandbox beside: %w", err)
	}
	if len(b.Ports) < 3 {
		return b, fmt.Errorf("sandbox beside: %d ports are free, and three are needed", len(b.Ports))
	}
	return b, nil
}

func (b beside) address(port int) string { return fmt.Sprintf("127.0.0.1:%d", b.Ports[port]) }

// The ports' uses.
const (
	pairingPort = iota
	controllerHealthPort
	nodeHealthPort
)

// installBeside is the chart without its pods: the daemons that these would run
// run beside the cluster, with the pods' arguments and service accounts.
func (g *Ground) installBeside(ctx context.Context, clusters ...Cluster) error {
	helm, err := Tool(ctx, g.Root, "helm")
	if err != nil {
		return err
	}
	each, eachCtx := errgroup.WithContext(ctx)
	for _, c := range clusters {
		b, err := g.sandbox.beside(ctx, c.Name)
		if err != nil {
			return err
		}
		manifest, err := g.render(ctx, c, helm, "--set", "pairing.endpoint="+b.address(pairingPort))
		if err != nil {
			return err
		}
		// They stay open when the installation is over.
		gates, err := g.openGates(ctx, c)
		if err != nil {
			return err
		}
		each.Go(func() error {
			if err := g.daemonsBeside(eachCtx, c, b, manifest, gates); err != nil {
				return fmt.Errorf("install Godwit beside cluster %s: %w", c.Name, err)
			}
			return nil
		})
	}
	return each.Wait()
}

func (g *Ground) daemonsBeside(ctx context.Context, c Cluster, b beside, manifest []byte, gates map[string]*clientcmdapi.Cluster) error {
	if err := g.applyKinds(ctx, c); err != nil {
		return err
	}
	objects, pods, err := withoutPods(manifest)
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, objects); err != nil {
		return err
	}
	// In this order: a node asks what the controller tells of the cluster.
	for _, d := range []daemon{
		{name: "godwitd-controller", health: b.address(controllerHealthPort), pod: pods["Deployment"], args: []string{
			"--pairing-address=" + b.address(pairingPort), "--leader-elect=false",
		}},
		{name: "godwitd-node", health: b.address(nodeHealthPort), pod: pods["DaemonSet"], args: []string{
			"--plain-files", "--kubelet-dir=" + b.KubeletDir,
		}},
	} {
		d.gate = gates[d.pod.ServiceAccountName]
		if err := g.startBeside(ctx, c, b, d); err != nil {
			return err
		}
	}
	return nil
}

// daemon is a program of Godwit that runs beside a cluster.
type daemon struct {
	name, health string
	// gate is where it reaches the API server; nil for that itself.
	gate *clientcmdapi.Cluster
	// pod is what the chart would run, args what is different beside a cluster.
	pod  corev1.PodSpec
	args []string
}

func (g *Ground) startBeside(ctx context.Context, c Cluster, b beside, d daemon) error {
	if len(d.pod.Containers) == 0 {
		return fmt.Errorf("daemon %s: the chart has no pod for it", d.name)
	}
	kubeconfig, err := c.serviceAccount(ctx, d.pod.ServiceAccountName, b.Dir, d.gate)
	if err != nil {
		return err
	}
	argv := []string{filepath.Join(g.Programs, "godwitd")}
	container := d.pod.Containers[0]
	known := strings.NewReplacer("$(POD_NAMESPACE)", Namespace, "$(NODE_NAME)", b.NodeName, "$(MEMORY_LIMIT)", container.Resources.Limits.Memory().String())
	for _, arg := range container.Args {
		if arg = known.Replace(arg); strings.Contains(arg, "$(") {
			return fmt.Errorf("daemon %s: nothing is known for %s", d.name, arg)
		}
		argv = append(argv, arg)
	}
	argv = append(argv, d.args...)
	argv = append(argv, "--metrics-address=0", "--health-address="+d.health, "--cache-dir="+filepath.Join(b.Dir, d.name+"-cache"))
	// What runs may be another build, or hold a token that has expired.
	if _, err := g.sandbox.run(ctx, "daemon", "stop", c.Name, d.name); err != nil {
		return err
	}
	args := []string{"daemon", "start", c.Name, d.name, "--env", "KUBECONFIG=" + kubeconfig}
	// Where the race detector is built in, it tells in files, which tests look for.
	args = append(args, "--env", "GORACE=log_path="+filepath.Join(b.Dir, d.name+"-race"), "--")
	if _, err := g.sandbox.run(ctx, append(args, argv...)...); err != nil {
		return err
	}
	return Await(ctx, time.Minute, fmt.Sprintf("daemon %s to be ready; its log is in %s", d.name, b.Logs), d.ready)
}

func (d daemon) ready(ctx context.Context) (bool, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.health+"/readyz", nil)
	if err != nil {
		return false, "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err.Error(), nil //nolint:nilerr // it does not listen yet
	}
	return answer.StatusCode == http.StatusOK, answer.Status, answer.Body.Close()
}

// serviceAccount writes a kubeconfig with the rights of one of Godwit's service
// accounts, for a gate in front of the API server if one is given.
func (c Cluster) serviceAccount(ctx context.Context, name, folder string, gate *clientcmdapi.Cluster) (string, error) {
	const lasts = "8760h"
	token, err := c.Kubectl(ctx, "-n", Namespace, "create", "token", name, "--duration", lasts)
	if err != nil {
		return "", err
	}
	config, err := clientcmd.LoadFromFile(c.Kubeconfig)
	if err != nil {
		return "", fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	current, there := config.Contexts[config.CurrentContext]
	if !there {
		return "", fmt.Errorf("cluster %s: %s has no current context", c.Name, c.Kubeconfig)
	}
	current.AuthInfo = name
	if gate != nil {
		config.Clusters[current.Cluster] = gate
	}
	config.AuthInfos = map[string]*clientcmdapi.AuthInfo{name: {Token: strings.TrimSpace(token)}}
	path := filepath.Join(folder, name+".kubeconfig")
	return path, clientcmd.WriteToFile(*config, path)
}

// withoutPods takes what runs pods out of a manifest, and gives their pods by
// kind.
func withoutPods(manifest []byte) ([]byte, map[string]corev1.PodSpec, error) {
	var rest bytes.Buffer
	pods := map[string]corev1.PodSpec{}
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifest)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return rest.Bytes(), pods, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read the rendered chart: %w", err)
		}
		// A Deployment and a DaemonSet have their pods in the same place.
		var what struct {
			metav1.TypeMeta `json:",inline"`
			Spec            json.RawMessage `json:"spec"`
		}
		if err := yaml.Unmarshal(document, &what); err != nil {
			return nil, nil, fmt.Errorf("read the rendered chart: %w", err)
		}
		if what.Kind != "Deployment" && what.Kind != "DaemonSet" {
			fmt.Fprintf(&rest, "---\n%s", document)
			continue
		}
		var spec appsv1.DaemonSetSpec
		if err := json.Unmarshal(what.Spec, &spec); err != nil {
			return nil, nil, fmt.Errorf("read the rendered %s: %w", what.Kind, err)
		}
		pods[what.Kind] = spec.Template.Spec
	}
}

// Kill ends, without warning, the process of the cluster's nodes whose command
// line begins with the words, such as "godwitd node". None there is an error. It
// looks only inside the node's own process namespace, or among the daemons
// beside a cluster without containers.
func (g *Ground) Kill(ctx context.Context, c Cluster, words string) error {
	if g.sandbox == nil {
		return errors.New("processes of existing clusters are not ours to kill")
	}
	args := []string{"shell", c.Name, "--", "pkill", "-9", "-f", "^/usr/local/bin/" + words}
	if g.sandbox.ControlPlane {
		args = []string{"daemon", "kill", c.Name, daemonName(words)}
	}
	_, err := g.sandbox.run(ctx, args...)
	return err
}

// StopBeside ends one of Godwit's daemons beside a cluster without containers,
// until StartBeside.
func (g *Ground) StopBeside(ctx context.Context, c Cluster, words string) error {
	_, err := g.sandbox.run(ctx, "daemon", "stop", c.Name, daemonName(words))
	return err
}

// StartBeside starts again what StopBeside has ended.
func (g *Ground) StartBeside(ctx context.Context, c Cluster, words string) error {
	_, err := g.sandbox.run(ctx, "daemon", "start", c.Name, daemonName(words))
	return err
}

func daemonName(words string) string { return strings.ReplaceAll(words, " ", "-") }

// bad are words in a daemon's log that no run should leave there.
func bad() []string {
	return []string{"panic:", "Observed a panic", "fatal error:", "WARNING: DATA RACE"}
}

// Complaints lists what Godwit's daemons beside clusters without containers must
// never say: races, where the detector is built into them, and panics.
func (g *Ground) Complaints(ctx context.Context) ([]string, error) {
	var found []string
	for _, c := range []Cluster{g.Source, g.Target} {
		b, err := g.sandbox.beside(ctx, c.Name)
		if err != nil {
			return nil, err
		}
		races, err1 := filepath.Glob(filepath.Join(b.Dir, "*-race.*"))
		logs, err2 := filepath.Glob(filepath.Join(b.Logs, "godwitd-*.log"))
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		for _, file := range append(races, logs...) {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			for _, words := range bad() {
				if _, after, there := strings.Cut(string(text), words); there {
					found = append(found, fmt.Sprintf("%s of %s: %s%s", filepath.Base(file), c.Name, words, after[:min(len(after), 3000)]))
				}
			}
		}
	}
	return found, nil
}

// LastWords is the end of each daemon's log.
func (g *Ground) LastWords(ctx context.Context) string {
	var text strings.Builder
	for _, c := range []Cluster{g.Source, g.Target} {
		b, err := g.sandbox.beside(ctx, c.Name)
		if err != nil {
			return err.Error()
		}
		logs, err := filepath.Glob(filepath.Join(b.Logs, "godwitd-*.log"))
		if err != nil {
			return err.Error()
		}
		for _, file := range logs {
			said, err := os.ReadFile(file)
			if err != nil {
				return err.Error()
			}
			fmt.Fprintf(&text, "--- %s of %s\n%s\n", filepath.Base(file), c.Name, tail(string(said), 4000))
		}
	}
	return text.String()
}

// LogOf is the file that one of Godwit's daemons beside a cluster without
// containers logs to.
func (g *Ground) LogOf(ctx context.Context, c Cluster, words string) (string, error) {
	b, err := g.sandbox.beside(ctx, c.Name)
	return filepath.Join(b.Logs, daemonName(words)+".log"), err
}
