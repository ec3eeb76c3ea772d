package controller_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/controller"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/workload"
)

// toLoadBalancer is the transformation of stork's documentation.
func (r *rig) toLoadBalancer(name string, path api.TransformPath) {
	r.t.Helper()
	r.must(r.client.Create(r.t.Context(), &api.ResourceTransformation{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: name},
		Specs: api.ResourceTransformationSpec{TransformSpecs: []api.TransformSpec{{
			Resource: "/v1/Service", Selectors: map[string]string{"app": "wordpress"}, Paths: []api.TransformPath{path},
		}}},
	}))
}

func (r *rig) service() {
	r.t.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: "wordpress", Labels: map[string]string{"app": "wordpress"}}}
	s.Spec.Ports = []corev1.ServicePort{{Port: 80}}
	r.must(r.client.Create(r.t.Context(), s))
}

func modify() api.TransformPath {
	return api.TransformPath{Path: "spec.type", Value: "LoadBalancer", Type: "string", Operation: "modify"}
}

// TestInstructionsTravel sees that the target is asked about the objects with all
// that is to be done with them, and that the round carries the same.
func TestInstructionsTravel(t *testing.T) {
	r := newRig(t)
	r.service()
	r.toLoadBalancer("service-transform", modify())
	r.must(r.client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: "modifiers"},
		Data: map[string]string{"rules.yaml": "version: v1\nresourceModifierRules: []\n"}}))
	r.migration("move", func(s *api.MigrationSpec) {
		s.TransformSpecs, s.ResourceModifiers = []string{"service-transform"}, []string{"modifiers"}
		s.NamespaceMapping = map[string]string{r.ns: "elsewhere"}
		s.ConflictResolution = api.ConflictOverwrite
		s.Overrides = []api.ObjectOverride{
			{ClusterPairs: []string{"another"}, ResourceSelectors: []api.ResourceSelector{{APIVersion: "v1", Kind: "Pod"}}, Patch: "{}"},
			{ClusterPairs: []string{"west"}, ResourceSelectors: []api.ResourceSelector{{APIVersion: "v1", Kind: "Service"}}, Patch: "{}"},
		}
	})
	m := r.until("move", "its end", ended, r.carryOut("move"))
	round, err := r.repository.Sealed(t.Context(), m.Status.Application, m.Status.Round)
	r.must(err)
	asked, err := workload.Expand(r.target.asked[0].Objects)
	r.must(err)
	for what, data := range map[string][]byte{"asked": asked, "sealed": round.Objects} {
		i, objects, err := workload.Unpack(data)
		r.must(err)
		if len(i.Transformations) != 1 || i.Transformations[0].Namespace != r.ns || len(i.Modifiers) != 1 || len(i.Overrides) != 1 ||
			i.Namespaces[r.ns] != "elsewhere" || i.Conflicts.Resolution != api.ConflictOverwrite || len(objects) == 0 {
			t.Errorf("%s: %d objects, %+v", what, len(objects), i)
		}
		for _, o := range objects {
			if o.GetKind() == "ResourceTransformation" {
				t.Errorf("%s: the rules themselves move", what)
			}
		}
	}
}

// TestBadRulesTouchNothing names what is wrong with the rules before a snapshot is
// taken or the target is asked.
func TestBadRulesTouchNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(*rig, *api.MigrationSpec)
		want    string
	}{
		"transformation": {func(r *rig, s *api.MigrationSpec) {
			r.toLoadBalancer("bad", api.TransformPath{Path: "spec.ports[x]", Operation: "delete"})
			s.TransformSpecs = []string{"bad"}
		}, `/bad: specs.transformSpecs[0].paths[0]: path: path "spec.ports[x]": position 11: "x" is no index`},
		"no transformation": {func(_ *rig, s *api.MigrationSpec) { s.TransformSpecs = []string{"none"} }, "ResourceTransformation none is not in namespace"},
		"no ConfigMap":      {func(_ *rig, s *api.MigrationSpec) { s.ResourceModifiers = []string{"none"} }, "/none does not exist: create it, or correct spec.resourceModifiers"},
		"override": {func(_ *rig, s *api.MigrationSpec) {
			s.Overrides = []api.ObjectOverride{{ResourceSelectors: []api.ResourceSelector{{APIVersion: "v1", Kind: "Service"}}, Patch: "[{op: paint, path: /a}]"}}
		}, `spec.overrides[0].patch: operation 0: operation "paint" is unknown`},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.claim("data")
			r.migration("move", func(s *api.MigrationSpec) { tc.prepare(r, s) })
			m := r.until("move", "its end", ended)
			if m.Status.Status != api.MigrationStatusFailed || !strings.Contains(messageOf(m), tc.want) {
				t.Errorf("%s: %s", m.Status.Status, messageOf(m))
			}
			if len(r.target.asked) > 0 || len(r.storage.left()) > 0 {
				t.Errorf("asked %d times, left %v", len(r.target.asked), r.storage.left())
			}
		})
	}
}

func messageOf(m *api.Migration) string {
	for _, c := range m.Status.Conditions {
		if c.Type == api.ConditionReady {
			return c.Message
		}
	}
	return ""
}

// TestDryRun shows the plan and does nothing.
func TestDryRun(t *testing.T) {
	r := newRig(t)
	r.claim("data")
	r.service()
	told := workload.Plan{
		Objects:  []workload.Outlook{{Action: workload.Created}, {Action: workload.Updated}, {Action: workload.Unchanged}, {Action: workload.Kept}},
		Warnings: []string{"careful"},
	}
	data, err := json.Marshal(told)
	r.must(err)
	r.target.details, err = workload.Compress(data)
	r.must(err)
	yes := true
	r.migration("plan", func(s *api.MigrationSpec) { s.DryRun = &yes })
	m := r.until("plan", "its end", ended)
	p := m.Status.Plan
	if m.Status.Status != api.MigrationStatusSuccessful || p == nil || p.Create != 1 || p.Update != 1 || p.Unchanged != 1 || p.Skip != 1 || p.LeftOut == 0 {
		t.Fatalf("%s, %+v", m.Status.Status, p)
	}
	if len(r.target.begun) > 0 || len(r.storage.left()) > 0 || !r.target.asked[0].Details {
		t.Errorf("begun %v, left %v", r.target.begun, r.storage.left())
	}
	plain, err := workload.Expand(p.Details)
	r.must(err)
	var shown workload.Plan
	r.must(json.Unmarshal(plain, &shown))
	if len(shown.Objects) != 4 || len(shown.LeftOut) == 0 || shown.Warnings[0] != "careful" {
		t.Errorf("%+v", shown)
	}
	r.target.problems = []migrate.Problem{{Reason: "ObjectRefused", Message: "no"}}
	r.migration("bad", func(s *api.MigrationSpec) { s.DryRun = &yes })
	if m := r.until("bad", "its end", ended); m.Status.Status != api.MigrationStatusFailed || m.Status.Plan == nil || m.Status.Plan.Problems[0] != "no" {
		t.Errorf("%s, %+v", m.Status.Status, m.Status.Plan)
	}
}

// TestResourceTransformationStatus tells what rules change, and what is wrong with
// them.
func TestResourceTransformationStatus(t *testing.T) {
	r := newRig(t)
	r.service()
	r.toLoadBalancer("good", modify())
	r.toLoadBalancer("bad", api.TransformPath{Path: "spec.type", Value: "x", Type: "int", Operation: "modify"})
	r.toLoadBalancer("unfit", api.TransformPath{Path: "spec.ports[7].port", Value: "1", Type: "int", Operation: "modify"})
	reconciler := &controller.ResourceTransformations{Client: r.client, Objects: objects(t), Events: events.NewFakeRecorder(10), Now: time.Now}
	for name, want := range map[string]string{
		"good": "Ready ", "bad": `Failed ResourceTransformation ` + r.ns + `/bad: specs.transformSpecs[0].paths[0]: value: "x" is no whole number`,
		"unfit": "Failed transform Service " + r.ns + "/wordpress: ",
	} {
		key := types.NamespacedName{Namespace: r.ns, Name: name}
		_, err := reconciler.Reconcile(t.Context(), ctrl.Request{NamespacedName: key})
		r.must(err)
		var got api.ResourceTransformation
		r.must(r.client.Get(t.Context(), key, &got))
		if told := string(got.Status.Status) + " " + got.Status.Message; !strings.HasPrefix(told, want) {
			t.Errorf("%s: %s, want %s", name, told, want)
		}
		if name == "good" && (len(got.Status.Resources) != 1 || got.Status.Resources[0].Name != "wordpress" || got.Status.Resources[0].Group != "core") {
			t.Errorf("resources: %+v", got.Status.Resources)
		}
	}
}

// TestResourceTransformationHalfRead has nobody's rights: what could not be read is named.
func TestResourceTransformationHalfRead(t *testing.T) {
	r := newRig(t)
	r.service()
	r.toLoadBalancer("good", modify())
	nobody := rest.CopyConfig(server)
	nobody.Impersonate = rest.ImpersonationConfig{UserName: "nobody", Groups: []string{"system:authenticated"}}
	told := events.NewFakeRecorder(1000)
	reconciler := &controller.ResourceTransformations{Client: r.client, Objects: objectsBy(t, nobody), Events: told, Now: time.Now}
	key := types.NamespacedName{Namespace: r.ns, Name: "good"}
	_, err := reconciler.Reconcile(t.Context(), ctrl.Request{NamespacedName: key})
	r.must(err)
	var got api.ResourceTransformation
	r.must(r.client.Get(t.Context(), key, &got))
	if len(got.Status.Resources) != 0 || !strings.Contains(got.Status.Message, "may not read here") || !strings.Contains(got.Status.Message, "Service") {
		t.Errorf("%+v", got.Status)
	}
	close(told.Events)
	service := false
	for event := range told.Events {
		service = service || strings.Contains(event, "Unreadable") && strings.Contains(event, `services is forbidden: User "nobody"`)
	}
	if !service {
		t.Error("no event says that Services were refused")
	}
}

// TestNamespaceSelectors adds the namespaces with any of the labels.
func TestNamespaceSelectors(t *testing.T) {
	r := newRig(t)
	r.migrations.AdminNamespace = r.ns
	for _, name := range []string{r.ns + "-a", r.ns + "-b", r.ns + "-c"} {
		r.must(r.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"part": name}}}))
	}
	r.migration("move", func(s *api.MigrationSpec) {
		s.Namespaces = []string{r.ns, "not-there"}
		s.NamespaceSelectors = map[string]string{"part": r.ns + "-b", "kubernetes.io/metadata.name": r.ns + "-a"}
	})
	m := r.until("move", "its end", ended, r.carryOut("move"))
	if got, want := strings.Join(m.Status.Namespaces, " "), r.ns+" "+r.ns+"-a "+r.ns+"-b"; got != want || m.Status.Status != api.MigrationStatusSuccessful {
		t.Errorf("%s: %s, want %s: %s", m.Status.Status, got, want, messageOf(m))
	}
}
