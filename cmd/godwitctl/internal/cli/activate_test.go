package cli

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// testActivate starts and stops what was migrated into a namespace, as storkctl does.
func (c *cluster) testActivate(t *testing.T) {
	deployments := func(namespace string) dynamic.ResourceInterface {
		d, err := dynamic.NewForConfig(c.environ.Config)
		if err != nil {
			t.Fatal(err)
		}
		return d.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(namespace)
	}
	c.create(t, namespace("moved"), namespace("also"), namespace("staged"))
	for _, in := range []string{"moved", "also"} {
		var obj unstructured.Unstructured
		if err := yaml.Unmarshal(fmt.Appendf(nil, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: front, annotations: {stork.libopenstorage.org/migrated: "true", stork.libopenstorage.org/migrationReplicas: "3"}},
 spec: {replicas: 0, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}`), &obj.Object); err != nil {
			t.Fatal(err)
		}
		if _, err := deployments(in).Create(t.Context(), &obj, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	replicas := func(in string, want int64) {
		t.Helper()
		obj, err := deployments(in).Get(t.Context(), "front", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := unstructured.NestedInt64(obj.Object, "spec", "replicas"); err != nil || got != want {
			t.Errorf("the Deployment in %s has %d replicas, want %d (%v)", in, got, want, err)
		}
	}
	spec := api.MigrationScheduleSpec{Template: api.MigrationTemplate{Spec: api.MigrationSpec{ClusterPair: "p", Namespaces: []string{"moved"}}}}
	static := &api.MigrationSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: "moved", Name: "nightly", Annotations: map[string]string{api.AnnotationStaticCopy: "true"}}, Spec: spec}
	own := &api.MigrationSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: "moved", Name: "own"}, Spec: spec}
	c.create(t, static, own, &api.Standby{ObjectMeta: metav1.ObjectMeta{Namespace: "godwit-system", Name: "staged-1"}, Spec: api.StandbySpec{
		PairID: "p", Application: "staged/staged", Round: "r", Namespaces: []string{"staged"}, Stage: true}})
	activated := func(want bool) {
		t.Helper()
		for _, s := range []*api.MigrationSchedule{static, own} {
			if err := c.client.Get(t.Context(), client.ObjectKeyFromObject(s), s); err != nil {
				t.Fatal(err)
			}
			if got := s.Status.ApplicationActivated; got != (want && s == static) {
				t.Errorf("MigrationSchedule %s: applicationActivated is %t", s.Name, got)
			}
		}
	}
	line := func(command, want string) {
		t.Helper()
		if got := c.good(t, command); got != want {
			t.Errorf("%s said %q, want %q", command, got, want)
		}
	}
	line("activate migrations -n moved", "Setting the ApplicationActivated status in the MigrationSchedule moved/nightly to true\nUpdated replicas for deployment moved/front to 3\n")
	replicas("moved", 3)
	replicas("also", 0)
	activated(true)
	line("activate migration -n moved", "")
	line("deactivate migration -n moved", "Updated replicas for deployment moved/front to 0\nSetting the ApplicationActivated status in the MigrationSchedule moved/nightly to false\n")
	replicas("moved", 0)
	activated(false)
	line("activate migration -a", "Updated replicas for deployment also/front to 3\nSetting the ApplicationActivated status in the MigrationSchedule moved/nightly to true\nUpdated replicas for deployment moved/front to 3\n")
	line("deactivate migration --all-namespaces", "Updated replicas for deployment also/front to 0\nUpdated replicas for deployment moved/front to 0\nSetting the ApplicationActivated status in the MigrationSchedule moved/nightly to false\n")
	c.bad(t, "activate migration -n staged", "its application is Standby staged-1, which is brought up by: godwitctl perform failover -m staged/staged")
	c.bad(t, "activate migration -n nosuch", "namespace nosuch is not on this cluster")
	c.bad(t, "resume migrationschedule -n moved nightly", "MigrationSchedule nightly is the copy of a schedule of another cluster: resume it there")
}

// testFailoverOnTarget has the source asked, where there is the copy of a schedule.
func (c *cluster) testFailoverOnTarget(t *testing.T) {
	c.create(t, namespace("bank"))
	standby := &api.Standby{ObjectMeta: metav1.ObjectMeta{Namespace: "godwit-system", Name: "bank-1"}, Spec: api.StandbySpec{
		PairID: "p", Application: "bank/ledger", Round: "r", Namespaces: []string{"bank", "bank-web"}, Stage: true}}
	copied := &api.MigrationSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: "bank", Name: "hourly", Annotations: map[string]string{
		api.AnnotationStaticCopy: "true", api.AnnotationCopyStandby: "bank-1"}}}
	copied.Spec.Template.Spec = api.MigrationSpec{ClusterPair: "p", Namespaces: []string{"bank", "bank-web"}}
	copied.Spec.Template.Spec.Application = "ledger"
	c.create(t, standby, copied)
	const loss = "what was written on the source since its snapshots is not in it"
	for _, line := range []string{"-m hourly -n bank --dry-run", "-m bank/ledger --dry-run"} {
		if got := c.good(t, "perform failover "+line); !strings.Contains(got, "The source is asked to stop bank/ledger and to move what is left: then nothing is lost. If it does not answer:") || !strings.Contains(got, loss) {
			t.Errorf("%s: %q", line, got)
		}
	}
	c.bad(t, "perform failover -m hourly -n bank --include-namespaces bank --exclude-namespaces bank-web", "can provide only one of --include-namespaces or --exclude-namespaces")
	c.bad(t, "perform failover -m hourly -n bank --include-namespaces bank,shop", "provided namespaces [shop] are not a subset")
	c.bad(t, "perform failover -m hourly -n bank --exclude-namespaces bank-web", "namespace bank-web cannot be left behind: an application moves as a whole")
	c.bad(t, "perform failback -m bank/ledger --include-namespaces bank", "was not activated on this cluster")

	got := c.good(t, "perform failover -m bank/ledger --wait=false --include-namespaces bank-web,bank")
	if !strings.Contains(got, "Started failover for MigrationSchedule bank/hourly\n") || !strings.Contains(got, "get failover failover-hourly-") {
		t.Errorf("asked: %q", got)
	}
	var actions api.ActionList
	if err := c.client.List(t.Context(), &actions, client.InNamespace("bank")); err != nil || len(actions.Items) != 1 {
		t.Fatalf("%d Actions (%v)", len(actions.Items), err)
	}
	a := &actions.Items[0]
	if p := a.Spec.ActionParameter.FailoverParameter; p == nil || p.MigrationScheduleReference != "hourly" || len(p.FailoverNamespaces) != 2 || p.SkipSourceOperations != nil {
		t.Errorf("it asks for %+v", a.Spec)
	}
	a.Status.Stage, a.Status.Status = api.ActionStageFinal, api.ActionStatusSuccessful
	a.Status.Summary = &api.ActionSummary{FailoverSummary: []api.NamespaceSummary{{Namespace: "bank", Status: api.ActionStatusSuccessful}, {Namespace: "bank-web", Status: api.ActionStatusFailed}}}
	if err := c.client.Status().Update(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if got := c.good(t, "get failover -n bank"); !strings.Contains(got, "Scaled up Apps in : 1/2 namespaces") {
		t.Errorf("get failover: %q", got)
	}
	if got := c.good(t, "get failback -n bank"); got != "No resources found.\n" {
		t.Errorf("get failback: %q", got)
	}

	if got := c.good(t, "perform failover -m hourly -n bank --skip-source-operations --wait=false"); strings.Contains(got, "The source is asked") || !strings.Contains(got, loss) {
		t.Errorf("without the source: %q", got)
	}
	if err := c.client.Get(t.Context(), client.ObjectKeyFromObject(standby), standby); err != nil || standby.Spec.Activation == nil || standby.Spec.Activation.Planned {
		t.Errorf("it was not activated: %v %+v", err, standby.Spec.Activation)
	}
}
