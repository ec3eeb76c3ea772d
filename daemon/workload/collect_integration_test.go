package workload

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const application = `
---
{apiVersion: v1, kind: Namespace, metadata: {name: NS, labels: {team: web}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: NS, labels: {app: web}}, data: {a: "1"}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: kube-root-ca.crt, namespace: NS}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: unwanted, namespace: NS, annotations: {stork.libopenstorage.org/skip-resource: "true"}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: internal, namespace: NS, labels: {move: never}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: lock, namespace: NS, annotations: {control-plane.alpha.kubernetes.io/leader: "{}"}}}
---
{apiVersion: v1, kind: Secret, metadata: {name: sh.helm.release.v1.web.v1, namespace: NS}, type: helm.sh/release.v1}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: NS}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: NS}}
---
{apiVersion: v1, kind: Secret, metadata: {name: web-token, namespace: NS, annotations: {kubernetes.io/service-account.name: web}}, type: kubernetes.io/service-account-token}
---
{apiVersion: v1, kind: ResourceQuota, metadata: {name: q, namespace: NS}, spec: {hard: {pods: "20"}}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: web, namespace: NS}, rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: "system:web", namespace: NS}, rules: []}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: web, namespace: NS}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: web, namespace: NS}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: NS}
spec: {accessModes: [ReadWriteOnce], storageClassName: fast, volumeName: pv-NS, resources: {requests: {storage: 1Gi}}}
status: {phase: Bound}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: waiting, namespace: NS}
spec: {accessModes: [ReadWriteOnce], storageClassName: fast, resources: {requests: {storage: 1Gi}}}
status: {phase: Pending}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NS}
spec: {type: NodePort, ports: [{port: 80}], selector: {app: web}}
---
{apiVersion: v1, kind: Service, metadata: {name: outside, namespace: NS}, spec: {clusterIP: None, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Endpoints, metadata: {name: web, namespace: NS}}
---
{apiVersion: v1, kind: Endpoints, metadata: {name: outside, namespace: NS}, subsets: [{addresses: [{ip: 192.0.2.1}], ports: [{port: 80}]}]}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, endpoints: [], metadata: {name: web-1, namespace: NS, labels: {endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io}}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, endpoints: [], metadata: {name: by-hand, namespace: NS}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: web-5d8
  namespace: NS
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: "", controller: true}]
spec:
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: "web:1"}]}}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-5d8-x
  namespace: NS
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-5d8, uid: "", controller: true}]
spec: {containers: [{name: web, image: "web:1"}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: bare, namespace: NS}, spec: {containers: [{name: a, image: "a:1"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: holder, namespace: NS, labels: {godwit.io/role: exposure}}, spec: {containers: [{name: a, image: "a:1"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: done, namespace: NS}, spec: {containers: [{name: a, image: "a:1"}]}, status: {phase: Succeeded}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: NS}
spec:
  selector: {matchLabels: {app: agent}}
  template: {metadata: {labels: {app: agent}}, spec: {containers: [{name: a, image: "a:1"}]}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: NS}
spec: {schedule: "0 1 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: "a:1"}]}}}}}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: nightly-1
  namespace: NS
  ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: nightly, uid: "", controller: true}]
spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: "a:1"}]}}}
---
{apiVersion: batch/v1, kind: Job, metadata: {name: once, namespace: NS}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: "a:1"}]}}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: NS}
spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}
---
{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: web, namespace: NS}, spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: inside, namespace: NS}, spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: cidr, namespace: NS}, spec: {podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}}
---
{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: web, namespace: NS}, spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}}
---
{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: lease, namespace: NS}}
---
{apiVersion: v1, kind: Event, metadata: {name: e, namespace: NS}, involvedObject: {namespace: NS}}
---
{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: r, namespace: NS}, data: {a: 1}, revision: 1}
`

const customApplication = `
---
{apiVersion: GROUP/v1, kind: Widget, metadata: {name: parent, namespace: NS}, spec: {size: 9007199254740993}}
---
apiVersion: GROUP/v1
kind: Widget
metadata:
  name: child
  namespace: NS
  ownerReferences: [{apiVersion: GROUP/v1, kind: Widget, name: parent, uid: ""}]
---
apiVersion: GROUP/v1
kind: Widget
metadata:
  name: grandchild
  namespace: NS
  ownerReferences: [{apiVersion: GROUP/v1, kind: Widget, name: child, uid: ""}]
---
apiVersion: v1
kind: Secret
metadata:
  name: parent-password
  namespace: NS
  ownerReferences: [{apiVersion: GROUP/v1, kind: Widget, name: parent, uid: ""}]
data: {password: czNjcmV0}
`

func inNamespace(documents, namespace, group string) string {
	return strings.NewReplacer("NS", namespace, "GROUP", group).Replace(documents)
}

func names(c Collection) (objects, skipped []string) {
	for i := range c.Objects {
		ref := RefOf(&c.Objects[i])
		objects = append(objects, ref.GroupKind().String()+" "+ref.Name)
	}
	for _, s := range c.Skipped {
		name := s.Ref.GroupKind().String()
		if s.Ref.Name != "" {
			name += " " + s.Ref.Name
		}
		skipped = append(skipped, name+": "+s.Rule)
	}
	slices.Sort(objects)
	return objects, skipped
}

func requireSame(t *testing.T, what string, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("%s: lacks %s", what, name)
		}
	}
	for _, name := range got {
		if !slices.Contains(want, name) {
			t.Errorf("%s: has %s", what, name)
		}
	}
}

func TestCollect(t *testing.T) {
	c := cluster(t, nil)
	define(t, c, "collect.test", "Widget")
	define(t, c, "stork.libopenstorage.org", "Migration")
	put(t, c, inNamespace(application+customApplication, "collect", "collect.test"))
	s := Selection{Namespaces: []string{"collect", "collect"}, ExcludeSelectors: map[string]string{"move": "never"}}
	got, err := Collect(t.Context(), c, s)
	if err != nil {
		t.Fatal(err)
	}
	objects, skipped := names(got)
	whole := []string{
		"Namespace collect", "ConfigMap settings", "Secret sh.helm.release.v1.web.v1", "Secret parent-password",
		"ServiceAccount web", "ResourceQuota q", "Role.rbac.authorization.k8s.io web",
		"RoleBinding.rbac.authorization.k8s.io web", "PersistentVolumeClaim data", "Service web", "Service outside",
		"Endpoints outside", "EndpointSlice.discovery.k8s.io by-hand", "Deployment.apps web", "Pod bare",
		"DaemonSet.apps agent", "CronJob.batch nightly", "HorizontalPodAutoscaler.autoscaling web",
		"PodDisruptionBudget.policy web", "NetworkPolicy.networking.k8s.io inside", "Ingress.networking.k8s.io web",
		"Widget.collect.test parent",
	}
	requireSame(t, "objects", objects, whole)
	left := []string{
		"ConfigMap kube-root-ca.crt: made-by-cluster", "ConfigMap unwanted: skip-resource",
		"ConfigMap internal: excluded-label", "ConfigMap lock: leader-lock", "ServiceAccount default: made-by-cluster",
		"Secret web-token: service-account-token", "Role.rbac.authorization.k8s.io system:web: system-role",
		"PersistentVolumeClaim waiting: claim-not-bound", "Endpoints web: endpoints",
		"EndpointSlice.discovery.k8s.io web-1: endpoints", "ReplicaSet.apps web-5d8: controlled",
		"Pod web-5d8-x: controlled", "Pod done: finished", "Pod holder: holder", "NetworkPolicy.networking.k8s.io cidr: network-policy-cidr",
		"Widget.collect.test child: owned", "Widget.collect.test grandchild: owned",
		"Job.batch: optional-type", "Lease.coordination.k8s.io: leases", "Event: events",
		"Event.events.k8s.io: events", "ControllerRevision.apps: revisions", "CSIStorageCapacity.storage.k8s.io: storage-capacity",
		"Migration.stork.libopenstorage.org: own-objects",
		"CustomResourceDefinition.apiextensions.k8s.io widgets.collect.test: cluster-scoped",
	}
	requireSame(t, "left out", skipped, left)
	again, err := Collect(t.Context(), c, s)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := Encode(got.Objects)
	b, _ := Encode(again.Objects)
	if string(a) != string(b) {
		t.Error("two collections of the same state differ")
	}
	for _, s := range got.Skipped {
		if s.Reason == "" {
			t.Errorf("%s is left out without a reason", s.Ref)
		}
	}
	for name, tc := range map[string]struct {
		change func(*Selection)
		more   []string
	}{
		"asked for more": {func(s *Selection) {
			s.IncludeOptionalResourceTypes = []string{"Jobs"}
			s.IncludeNetworkPolicyWithCIDR = true
			s.IgnoreOwnerReferencesCheck = true
			s.ExcludeSelectors = nil
		}, append(slices.Clone(whole), "Job.batch once", "NetworkPolicy.networking.k8s.io cidr",
			"Widget.collect.test child", "Widget.collect.test grandchild", "ConfigMap internal")},
		"only one label": {func(s *Selection) { s.Selectors = map[string]string{"app": "web"} },
			[]string{"Namespace collect", "ConfigMap settings"}},
		"without some kinds": {func(s *Selection) {
			s.ExcludeResourceTypes = []string{"configmap", "Secrets", "widgets.collect.test", "*.networking.k8s.io"}
		}, slices.DeleteFunc(slices.Clone(whole), func(name string) bool {
			return strings.HasPrefix(name, "ConfigMap") || strings.HasPrefix(name, "Secret") ||
				strings.HasPrefix(name, "Widget") || strings.Contains(name, "networking")
		})},
	} {
		t.Run(name, func(t *testing.T) {
			s := s
			tc.change(&s)
			got, err := Collect(t.Context(), c, s)
			if err != nil {
				t.Fatal(err)
			}
			objects, _ := names(got)
			requireSame(t, "objects", objects, tc.more)
		})
	}
}

func TestCollectInPages(t *testing.T) {
	c := cluster(t, nil)
	put(t, c, "{apiVersion: v1, kind: Namespace, metadata: {name: pages}}")
	const many = 2*pageSize + 7
	for i := range many {
		put(t, c, fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: c%d, namespace: pages}}", i))
	}
	var expired, pages atomic.Int32
	forgetful := cluster(t, answering(func(r *http.Request) *http.Response {
		if !strings.HasSuffix(r.URL.Path, "/pages/configmaps") {
			return nil
		}
		pages.Add(1)
		if r.URL.Query().Get("continue") == "" || expired.Add(1) > 1 {
			return nil
		}
		return status(r, http.StatusGone, metav1.StatusReasonExpired)
	}))
	for name, c := range map[string]Cluster{"pages": c, "a page that expires": forgetful} {
		got, err := Collect(t.Context(), c, Selection{Namespaces: []string{"pages"}})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Objects) != many+1 {
			t.Errorf("%s: %d objects, want %d", name, len(got.Objects), many+1)
		}
	}
	if expired.Load() != 1 || pages.Load() != 3 {
		t.Errorf("%d pages were asked for, %d expired", pages.Load(), expired.Load())
	}
}

func status(r *http.Request, code int, reason metav1.StatusReason) *http.Response {
	body := fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d,"reason":%q,"message":"as the test wants it"}`, code, reason)
	return &http.Response{
		StatusCode: code, Request: r, Header: http.Header{"Content-Type": []string{"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)),
	}
}

func TestCollectIsWholeOrFails(t *testing.T) {
	plain := cluster(t, nil)
	put(t, plain, "{apiVersion: v1, kind: Namespace, metadata: {name: whole}}")
	put(t, plain, "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: whole}}")
	s := Selection{Namespaces: []string{"whole"}}
	secrets := func(code int, reason metav1.StatusReason) Cluster {
		return cluster(t, answering(func(r *http.Request) *http.Response {
			if strings.HasSuffix(r.URL.Path, "/secrets") {
				return status(r, code, reason)
			}
			return nil
		}))
	}
	if _, err := Collect(t.Context(), secrets(http.StatusInternalServerError, metav1.StatusReasonInternalError), s); err == nil ||
		!strings.Contains(err.Error(), "list Secret in whole") || !Retryable(err) {
		t.Errorf("a list that fails: %v", err)
	}
	for code, want := range map[int]string{http.StatusForbidden: RuleForbidden, http.StatusNotFound: RuleNotServed} {
		reason := map[int]metav1.StatusReason{http.StatusForbidden: metav1.StatusReasonForbidden, http.StatusNotFound: metav1.StatusReasonNotFound}[code]
		got, err := Collect(t.Context(), secrets(code, reason), s)
		if err != nil {
			t.Fatal(err)
		}
		told := slices.ContainsFunc(got.Skipped, func(s Skipped) bool {
			return s.Ref.Kind == "Secret" && s.Ref.Namespace == "whole" && s.Rule == want && strings.Contains(s.Reason, "as the test wants it")
		})
		if !told || len(got.Objects) != 2 {
			t.Errorf("%d: told %v, %d objects", code, told, len(got.Objects))
		}
	}
	for name, tc := range map[string]struct {
		c    Cluster
		s    Selection
		want string
	}{
		"no namespace":        {plain, Selection{}, "no namespace is selected"},
		"a missing namespace": {plain, Selection{Namespaces: []string{"whole", "nowhere"}}, `read namespace nowhere: namespaces "nowhere" not found`},
		"a group that cannot be discovered": {cluster(t, answering(func(r *http.Request) *http.Response {
			// Without aggregated discovery, each group is asked by itself.
			r.Header.Set("Accept", "application/json")
			if strings.HasPrefix(r.URL.Path, "/apis/batch/") {
				return status(r, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
			}
			return nil
		})), s, "the cluster cannot say what batch/v1 holds"},
	} {
		if _, err := Collect(t.Context(), tc.c, tc.s); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCollectAsNobody reads with the rights of a user who may read one kind.
func TestCollectAsNobody(t *testing.T) {
	admin := cluster(t, nil)
	put(t, admin, `
{apiVersion: v1, kind: Namespace, metadata: {name: nobody}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: nobody}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: r, namespace: nobody}, rules: [{apiGroups: [""], resources: [configmaps], verbs: [list]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: r, namespace: nobody}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}, subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: nobody}]}
`)
	c := cluster(t, func(config *rest.Config) {
		config.Impersonate = rest.ImpersonationConfig{UserName: "nobody", Groups: []string{"system:authenticated"}}
	})
	got, err := Collect(t.Context(), c, Selection{Namespaces: []string{"nobody"}})
	if err != nil {
		t.Fatal(err)
	}
	objects, skipped := names(got)
	requireSame(t, "objects", objects, []string{"ConfigMap c"})
	for _, want := range []string{"Namespace nobody: forbidden", "Secret: forbidden", "PersistentVolumeClaim: forbidden"} {
		if !slices.Contains(skipped, want) {
			t.Errorf("%s is not told: %v", want, skipped)
		}
	}
}
