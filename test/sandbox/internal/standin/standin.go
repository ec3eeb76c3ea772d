// Package standin does kubelet's part where kubelets cannot run: it registers a node, brings the
// volumes of the node's pods through the CSI drivers into folders laid out as kubelet lays them out,
// and says that pods run. It starts no container: what a pod's program would do, nobody does.
//
// It remembers nothing. What a pod needs is derived from the pod, its claims and the attachments
// each time; every step can be repeated.
package standin

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

// Config is what a stand-in needs.
type Config struct {
	Kubeconfig string            `json:"kubeconfig"`
	NodeName   string            `json:"nodeName"`
	KubeletDir string            `json:"kubeletDir"` // as /var/lib/kubelet
	Drivers    map[string]string `json:"drivers"`    // driver name to socket
}

// workers are pods handled at once.
const workers = 8

// kubelet is the stand-in.
type kubelet struct {
	cfg     Config
	api     kubernetes.Interface
	drivers map[string]csi.NodeClient
	pods    cache.SharedIndexInformer
	queue   workqueue.TypedRateLimitingInterface[string]
}

// Run works until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	rest, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	if err != nil {
		return err
	}
	rest.QPS, rest.Burst = 100, 200
	api, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return err
	}
	k := &kubelet{cfg: cfg, api: api, drivers: map[string]csi.NodeClient{}}
	for name, socket := range cfg.Drivers {
		conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return fmt.Errorf("CSI driver %s: %w", name, err)
		}
		defer conn.Close() //nolint:errcheck // the process ends
		k.drivers[name] = csi.NewNodeClient(conn)
	}
	if err := untilDone(ctx, k.register); err != nil {
		return err
	}
	return k.work(ctx)
}

// untilDone tries until it succeeds or ctx ends.
func untilDone(ctx context.Context, try func(context.Context) error) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// register makes the node and tells which drivers it has.
func (k *kubelet) register(ctx context.Context) error {
	ids := map[string]string{}
	for name, d := range k.drivers {
		info, err := d.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
		if err != nil {
			return err
		}
		ids[name] = info.GetNodeId()
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: k.cfg.NodeName,
		Labels: map[string]string{
			corev1.LabelHostname: k.cfg.NodeName, corev1.LabelOSStable: "linux", "sandbox.godwit.io/stand-in": "true",
		},
		// Without it the attach controller leaves attaching to a kubelet that is not there.
		Annotations: map[string]string{"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
	}}
	have, err := k.api.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		have, err = k.api.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
	}
	if err != nil {
		return err
	}
	have.Status = nodeStatus(metav1.Now())
	if _, err := k.api.CoreV1().Nodes().UpdateStatus(ctx, have, metav1.UpdateOptions{}); err != nil {
		return err
	}
	if len(have.Spec.Taints) > 0 { // new nodes are tainted not-ready until somebody says otherwise
		have, err = k.api.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		have.Spec.Taints = nil
		if _, err := k.api.CoreV1().Nodes().Update(ctx, have, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return k.registerDrivers(ctx, ids)
}

func (k *kubelet) registerDrivers(ctx context.Context, ids map[string]string) error {
	node := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: k.cfg.NodeName}}
	for name, id := range ids {
		node.Spec.Drivers = append(node.Spec.Drivers, storagev1.CSINodeDriver{Name: name, NodeID: id})
	}
	_, err := k.api.StorageV1().CSINodes().Create(ctx, node, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func nodeStatus(now metav1.Time) corev1.NodeStatus {
	size := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods: resource.MustParse("10000"), corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
	}
	return corev1.NodeStatus{
		Capacity: size, Allocatable: size,
		Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "StandIn", LastHeartbeatTime: now, LastTransitionTime: now,
			Message: "a stand-in for kubelet publishes volumes; no container runs",
		}},
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}},
		NodeInfo:  corev1.NodeSystemInfo{OperatingSystem: "linux", KubeletVersion: "stand-in"},
	}
}

// work handles pods as they change.
func (k *kubelet) work(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(k.api, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", k.cfg.NodeName).String()
	}))
	k.pods = factory.Core().V1().Pods().Informer()
	k.queue = workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](100*time.Millisecond, 5*time.Second))
	add := func(o any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
			k.queue.Add(key)
		}
	}
	if _, err := k.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: add, UpdateFunc: func(_, o any) { add(o) }, DeleteFunc: add,
	}); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), k.pods.HasSynced) {
		return ctx.Err()
	}
	if err := k.sweep(ctx); err != nil {
		return err
	}
	for range workers {
		go func() {
			for k.next(ctx) {
			}
		}()
	}
	<-ctx.Done()
	k.queue.ShutDown()
	return nil
}

func (k *kubelet) next(ctx context.Context) bool {
	key, stop := k.queue.Get()
	if stop {
		return false
	}
	defer k.queue.Done(key)
	if err := k.sync(ctx, key); err != nil {
		log.Printf("pod %s: %v", key, err)
		k.queue.AddRateLimited(key)
		return true
	}
	k.queue.Forget(key)
	return true
}

func (k *kubelet) path(parts ...string) string {
	return filepath.Join(append([]string{k.cfg.KubeletDir}, parts...)...)
}

// sync brings one pod forward.
func (k *kubelet) sync(ctx context.Context, key string) error {
	o, exists, err := k.pods.GetIndexer().GetByKey(key)
	if err != nil || !exists {
		return err
	}
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("the cache of pods holds a %T", o)
	}
	switch {
	case pod.DeletionTimestamp != nil:
		return k.remove(ctx, pod)
	case pod.Status.Phase == corev1.PodPending || pod.Status.Phase == "":
		return k.start(ctx, pod)
	}
	return nil
}

// start publishes the pod's volumes, then says that it runs.
func (k *kubelet) start(ctx context.Context, pod *corev1.Pod) error {
	if err := os.MkdirAll(k.podDir(string(pod.UID)), 0o750); err != nil {
		return err
	}
	volumes, err := k.volumes(ctx, pod)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if err := k.publish(ctx, pod, v); err != nil {
			return fmt.Errorf("volume %s: %w", v.pv.Name, err)
		}
	}
	running := pod.DeepCopy()
	running.Status = podStatus(pod, metav1.Now())
	_, err = k.api.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, running, metav1.UpdateOptions{})
	return err
}

// remove takes the volumes back, then lets the pod go.
func (k *kubelet) remove(ctx context.Context, pod *corev1.Pod) error {
	if err := k.clear(ctx, string(pod.UID)); err != nil {
		return err
	}
	now := int64(0)
	err := k.api.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// sweep takes back the volumes of pods that went while no stand-in ran.
func (k *kubelet) sweep(ctx context.Context) error {
	live := map[string]bool{}
	for _, o := range k.pods.GetStore().List() {
		if pod, ok := o.(*corev1.Pod); ok {
			live[string(pod.UID)] = true
		}
	}
	entries, err := os.ReadDir(k.path("pods"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !live[e.Name()] {
			if err := k.clear(ctx, e.Name()); err != nil {
				return fmt.Errorf("volumes of the gone pod %s: %w", e.Name(), err)
			}
		}
	}
	return nil
}

func podStatus(pod *corev1.Pod, now metav1.Time) corev1.PodStatus {
	s := *pod.Status.DeepCopy()
	s.Phase, s.StartTime, s.HostIP = corev1.PodRunning, &now, "127.0.0.1"
	s.PodIP = net.IPv4(127, 0, 0, 1).String()
	s.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	s.Conditions = nil
	for _, t := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	started := true
	s.ContainerStatuses = nil
	for _, c := range pod.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, Ready: true, Started: &started,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	return s
}
