package rule

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
)

// +kubebuilder:rbac:groups="",resources=pods/exec,verbs=create

// patience is how long one short script may take: a node that hangs must not
// hang the controller.
const patience = 20 * time.Second

// Exec runs programs through the API server, as kubectl exec does.
type Exec struct {
	config *rest.Config
	client kubernetes.Interface
}

// NewExec returns an Exec for the cluster that config leads to.
func NewExec(config *rest.Config) (*Exec, error) {
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for running commands in pods: %w", err)
	}
	return &Exec{config: config, client: c}, nil
}

// Run runs argv in a container.
func (e *Exec) Run(ctx context.Context, p Place, argv []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pod, err := e.client.CoreV1().Pods(p.Namespace).Get(ctx, p.Pod, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", ErrPodGone
	case err != nil:
		return "", fmt.Errorf("read the pod: %w", err)
	case string(pod.UID) != p.UID || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return "", ErrPodGone
	}
	request := e.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(p.Namespace).Name(p.Pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: p.Container, Command: argv, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	executor, err := e.executor(request)
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr}); err != nil {
		return stdout.String(), fmt.Errorf("run a shell in container %s: %w: %s", p.Container, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// executor speaks WebSocket, and SPDY to a server or through a proxy that does not.
func (e *Exec) executor(request *rest.Request) (remotecommand.Executor, error) {
	socket, err := remotecommand.NewWebSocketExecutor(e.config, "GET", request.URL().String())
	if err != nil {
		return nil, fmt.Errorf("prepare to run a command: %w", err)
	}
	spdy, err := remotecommand.NewSPDYExecutor(e.config, "POST", request.URL())
	if err != nil {
		return nil, fmt.Errorf("prepare to run a command: %w", err)
	}
	executor, err := remotecommand.NewFallbackExecutor(socket, spdy, func(error) bool { return true })
	if err != nil {
		return nil, fmt.Errorf("prepare to run a command: %w", err)
	}
	return executor, nil
}
