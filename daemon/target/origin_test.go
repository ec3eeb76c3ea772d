package target_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// origin is all that an API server stored when it was new. It works on the store
// itself, because every object of every kind is there under its key, with what no
// client could write (a status, a uid, the ports that are given away), and goes at
// once, whatever holds it: there are no controllers that would finish a deletion.
type origin struct {
	etcd   string
	client kubernetes.Interface
	keys   map[string]stored
	// kinds are the paths of those that are served.
	kinds []string
	// unserved says why the kinds could not be listed last; nil where they could.
	unserved error
	// witnesses counts the rules that were made to see the authorizer follow.
	witnesses int
}

type stored struct {
	Key         []byte `json:"key"`
	Value       []byte `json:"value"`
	ModRevision int64  `json:"mod_revision,string"`
}

// ownKeys are what the API server writes for itself all the time: its leases.
func ownKeys() []string {
	return []string{"/registry/leases/kube-system/", "/registry/masterleases/"}
}

const (
	everything = "/registry/"
	// settling is how long nothing may change for the API server to have set itself up.
	settling = time.Second
	patience = time.Minute
	// mostOperations is what etcd takes in one transaction.
	mostOperations = 128
)

// newOrigin waits until the API server has set itself up, and remembers that.
func newOrigin(etcd string, config *rest.Config) (*origin, error) {
	quiet := rest.CopyConfig(config)
	quiet.WarningHandler = rest.NoWarnings{} // It lists deprecated kinds like others.
	clients, err := kubernetes.NewForConfig(quiet)
	if err != nil {
		return nil, err
	}
	o := &origin{etcd: etcd, client: clients}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(settling)
	defer tick.Stop()
	for {
		now, err := o.look(ctx, true)
		if err != nil {
			return nil, err
		}
		if _, bootstrapped := now["/registry/clusterroles/system:aggregate-to-view"]; bootstrapped && reflect.DeepEqual(now, o.keys) {
			break
		}
		o.keys = now
		select {
		case <-ctx.Done():
			return nil, errors.New("a new API server does not come to rest")
		case <-tick.C:
		}
	}
	o.kinds, err = o.served()
	return o, err
}

// restore brings it all back, and waits until the API server knows. It works with the
// store until nothing differs, because the API server writes there too.
func (o *origin) restore() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for known := false; ; {
		operations, err := o.difference(ctx)
		if err != nil {
			return err
		}
		switch {
		case len(operations) > 0:
			err, known = o.write(ctx, operations), false
		case known:
			return nil
		default:
			known, err = o.known(ctx)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("it is not as it was at first after %s: to write there are %+v; without any, it serves other kinds", patience, operations), o.unserved)
		case <-tick.C:
		}
	}
}

// operation is one of an etcd transaction.
type operation struct {
	Put    *stored `json:"request_put,omitempty"`
	Delete *stored `json:"request_delete_range,omitempty"`
}

func (s stored) MarshalJSON() ([]byte, error) {
	fields := map[string][]byte{"key": s.Key}
	if s.Value != nil {
		fields["value"] = s.Value
	}
	return json.Marshal(fields)
}

// difference is what must be written for the store to hold what it held at first.
func (o *origin) difference(ctx context.Context) ([]operation, error) {
	now, err := o.look(ctx, false)
	if err != nil {
		return nil, err
	}
	var operations []operation
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if _, ok := o.keys[key]; !ok {
			operations = append(operations, operation{Delete: &stored{Key: []byte(key)}})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(o.keys)) {
		if first := o.keys[key]; now[key].ModRevision != first.ModRevision {
			operations = append(operations, operation{Put: &first})
		}
	}
	return operations, nil
}

// look reads the store: keys and revisions, and the values if they are wanted.
func (o *origin) look(ctx context.Context, values bool) (map[string]stored, error) {
	var answer struct {
		Kvs []stored `json:"kvs"`
	}
	// The end of a range that holds all with a prefix is the prefix's successor.
	end := everything[:len(everything)-1] + string(everything[len(everything)-1]+1)
	request := map[string]any{"key": []byte(everything), "range_end": []byte(end), "keys_only": !values}
	if err := o.ask(ctx, "/v3/kv/range", request, &answer); err != nil {
		return nil, err
	}
	found := make(map[string]stored, len(answer.Kvs))
	for _, s := range answer.Kvs {
		key := string(s.Key)
		if !slices.ContainsFunc(ownKeys(), func(own string) bool { return strings.HasPrefix(key, own) }) {
			found[key] = s
		}
	}
	return found, nil
}

// write carries the operations out, and remembers the revisions that they make.
func (o *origin) write(ctx context.Context, operations []operation) error {
	for some := range slices.Chunk(operations, mostOperations) {
		var answer struct {
			Header struct {
				Revision int64 `json:"revision,string"`
			} `json:"header"`
		}
		if err := o.ask(ctx, "/v3/kv/txn", map[string]any{"success": some}, &answer); err != nil {
			return err
		}
		for _, done := range some {
			if done.Put != nil {
				first := *done.Put
				first.ModRevision = answer.Header.Revision
				o.keys[string(first.Key)] = first
			}
		}
	}
	return nil
}

// ask calls etcd through its gateway for JSON.
func (o *origin) ask(ctx context.Context, path string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.etcd+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it was read
	said, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd answers %s with %s: %s", path, response.Status, said)
	}
	return json.Unmarshal(said, answer)
}

// known says whether the API server has seen what was written: whether it serves the
// kinds of the origin, and no others, and each of its caches has come up to now. Then
// it waits for its authorizer to do so.
func (o *origin) known(ctx context.Context) (bool, error) {
	// A kind that is coming or going makes discovery fail.
	var kinds []string
	if kinds, o.unserved = o.served(); o.unserved != nil || !slices.Equal(kinds, o.kinds) {
		return false, nil
	}
	for _, path := range kinds {
		// A list without a version is as new as the store.
		if err := o.client.Discovery().RESTClient().Get().AbsPath(path).Param("limit", "1").Do(ctx).Error(); err != nil {
			return false, fmt.Errorf("list %s: %w", path, err)
		}
	}
	return true, o.authorizerFollows(ctx)
}

// served lists the kinds, which follow the CustomResourceDefinitions.
func (o *origin) served() ([]string, error) {
	_, lists, err := o.client.Discovery().ServerGroupsAndResources()
	if err != nil {
		return nil, err
	}
	var kinds []string
	for _, list := range lists {
		root := "/apis/"
		if list.GroupVersion == "v1" {
			root = "/api/"
		}
		for _, r := range list.APIResources {
			if slices.Contains(r.Verbs, "list") {
				kinds = append(kinds, root+list.GroupVersion+"/"+r.Name)
			}
		}
	}
	slices.Sort(kinds)
	return kinds, nil
}

// authorizerFollows waits until the API server grants what new rules allow, of each
// kind of rule: then it has seen what was done to older ones.
func (o *origin) authorizerFollows(ctx context.Context) error {
	o.witnesses++
	witness := metav1.ObjectMeta{Name: fmt.Sprintf("witness-%d", o.witnesses)}
	rules := func(scope string) []rbacv1.PolicyRule {
		return []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{"witness"}, Resources: []string{scope}}}
	}
	subjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: witness.Name}}
	api, none := o.client.RbacV1(), metav1.CreateOptions{}
	_, role := api.Roles(metav1.NamespaceDefault).Create(ctx, &rbacv1.Role{ObjectMeta: witness, Rules: rules("namespaced")}, none)
	_, clusterRole := api.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: witness, Rules: rules("everywhere")}, none)
	_, binding := api.RoleBindings(metav1.NamespaceDefault).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: witness, Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: witness.Name}}, none)
	_, clusterBinding := api.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: witness, Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: witness.Name}}, none)
	if err := errors.Join(role, clusterRole, binding, clusterBinding); err != nil {
		return err
	}
	for _, scope := range []string{"namespaced", "everywhere"} {
		if err := o.granted(ctx, witness.Name, scope); err != nil {
			return err
		}
	}
	gone := metav1.DeleteOptions{}
	return errors.Join(
		api.RoleBindings(metav1.NamespaceDefault).Delete(ctx, witness.Name, gone), api.Roles(metav1.NamespaceDefault).Delete(ctx, witness.Name, gone),
		api.ClusterRoleBindings().Delete(ctx, witness.Name, gone), api.ClusterRoles().Delete(ctx, witness.Name, gone),
	)
}

// granted waits until a witness may get what its rule names.
func (o *origin) granted(ctx context.Context, user, scope string) error {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user, ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: metav1.NamespaceDefault, Verb: "get", Group: "witness", Resource: scope},
	}}
	for {
		said, err := o.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		if said.Status.Allowed {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API server does not follow its rules: %s: %s", user, said.Status.Reason)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestFreshServer leaves behind, alters and takes away, and finds it all as at first.
func TestFreshServer(t *testing.T) {
	for _, turn := range []string{"first", "second"} {
		t.Run(turn, func(t *testing.T) { disturb(t, newVictim(t)) })
	}
}

// disturb makes what could come in the way of the next test, each of which fails if
// the one before left it: what something holds on to, a kind of its own, addresses
// that are given away, and rules that grant.
func disturb(t *testing.T, v *victim) {
	t.Helper()
	held := metav1.ObjectMeta{Namespace: "cms", Name: "held", Finalizers: []string{"example.com/held"}}
	kind := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": "widgets.example.com"},
		"spec": map[string]any{
			"group": "example.com", "scope": "Namespaced", "names": map[string]any{"kind": "Widget", "plural": "widgets"},
			"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true, "schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object"}}}},
		},
	}}
	widget := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"namespace": "cms", "name": "w", "finalizers": []any{"example.com/held"}},
	}}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: "somebody", ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: "cms", Verb: "get", Resource: "secrets"}}}
	v.create(t, review)
	if review.Status.Allowed {
		t.Error("somebody has rights in a new API server")
	}
	if _, err := v.client.RESTMapper().RESTMapping(schema.GroupKind{Group: "example.com", Kind: "Widget"}); !meta.IsNoMatchError(err) {
		t.Errorf("a new API server serves Widgets: %v", err)
	}
	v.create(t, &corev1.ConfigMap{ObjectMeta: held}, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "somebody"}, Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "somebody"}},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
	}, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "web"}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, ClusterIP: "10.0.0.9", Ports: []corev1.ServicePort{{Port: 80, NodePort: 30080}},
	}}, kind)
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		return v.client.Create(ctx, widget.DeepCopy()) == nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []client.Object{
		&corev1.ConfigMap{ObjectMeta: held}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, kind,
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "view"}}, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "cluster-admin"}},
	} {
		if err := v.client.Delete(t.Context(), o); err != nil {
			t.Error(err)
		}
	}
}
