package chart

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestRightsAreWhatTheCodeAsksFor holds the chart's roles against the markers
// beside the code: a right that is asked for and not given shows itself only in
// a cluster, and only when it is needed.
func TestRightsAreWhatTheCodeAsksFor(t *testing.T) {
	objs := decode(t, render(t, "--set", "rules.enabled=true", "--set", "hooks.enabled=true"))
	for component, packages := range map[string][]string{
		"controller": {"cmd/godwitd", "daemon/controller", "daemon/hook", "daemon/rule", "daemon/sdk", "daemon/target", "daemon/workload", "snapshot/csi", "pairing/secretstore"},
		"node":       {"daemon/node"},
	} {
		everywhere, home := given(t, objs, "godwit-"+component)
		for _, asked := range markers(t, packages) {
			if role, ok := asked.(*rbacv1.ClusterRole); ok {
				covered(t, component+", everywhere", role.Rules, everywhere)
			}
			if role, ok := asked.(*rbacv1.Role); ok {
				covered(t, component+", in its own namespace", role.Rules, append(slices.Clone(everywhere), home...))
			}
		}
	}
}

// markers is the roles that controller-gen makes of the packages' markers.
func markers(t *testing.T, packages []string) []client.Object {
	t.Helper()
	out := t.TempDir()
	args := []string{"tool", "-modfile=.tools/generate/go.mod", "controller-gen", "rbac:roleName=asked", "output:rbac:dir=" + out}
	for _, p := range packages {
		args = append(args, "paths=./"+p+"/...")
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root(t)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("controller-gen: %v\n%s", err, text)
	}
	text, err := os.ReadFile(filepath.Join(out, "role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, string(text))
}

// given is what the chart gives to one of its ServiceAccounts.
func given(t *testing.T, objs []client.Object, name string) (everywhere, home []rbacv1.PolicyRule) {
	t.Helper()
	for _, role := range find[*rbacv1.ClusterRole](objs) {
		if role.Name == name {
			everywhere = append(everywhere, role.Rules...)
		}
	}
	home = one[*rbacv1.Role](t, objs, name).Rules
	return everywhere, home
}

func covered(t *testing.T, who string, asked, given []rbacv1.PolicyRule) {
	t.Helper()
	for _, rule := range asked {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					if !gives(given, group, resource, verb) {
						t.Errorf("%s: the chart does not give %s on %q of group %q", who, verb, resource, group)
					}
				}
			}
		}
	}
}

func gives(rules []rbacv1.PolicyRule, group, resource, verb string) bool {
	has := func(list []string, value string) bool {
		return slices.Contains(list, value) || slices.Contains(list, "*")
	}
	return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool {
		return has(r.APIGroups, group) && has(r.Resources, resource) && has(r.Verbs, verb)
	})
}

// TestSourceOnlyWritesLittle holds the promise of target.clusterWide=false.
func TestSourceOnlyWritesLittle(t *testing.T) {
	everywhere, _ := given(t, decode(t, render(t, "--set", "target.clusterWide=false")), "godwit-controller")
	for _, verb := range []string{"create", "update", "patch", "delete", "escalate", "bind"} {
		for group, resource := range map[string]string{"apps": "deployments", "": "secrets", "rbac.authorization.k8s.io": "roles", "example.com": "widgets"} {
			// What is stopped for the last copy is updated, and nothing else of it.
			stops := verb == "update" && resource == "deployments"
			if gives(everywhere, group, resource, verb) != stops {
				t.Errorf("it may, or may not, %s %s of group %q", verb, resource, group)
			}
		}
	}
}

// TestTokensForStoragesAreGoodForLittle holds that the ServiceAccount whose
// token goes to storages' sidecars can do nothing but what they demand, and
// that a node can make tokens of no other.
func TestTokensForStoragesAreGoodForLittle(t *testing.T) {
	objs := decode(t, render(t))
	const account = "godwit-changed-blocks"
	want := []rbacv1.PolicyRule{{APIGroups: []string{"snapshot.storage.k8s.io"}, Resources: []string{"volumesnapshots"}, Verbs: []string{"get"}}}
	if got := one[*rbacv1.Role](t, objs, account).Rules; !reflect.DeepEqual(got, want) {
		t.Errorf("rules %+v, want %+v", got, want)
	}
	for _, binding := range find[*rbacv1.ClusterRoleBinding](objs) {
		if slices.ContainsFunc(binding.Subjects, func(s rbacv1.Subject) bool { return s.Name == account }) {
			t.Errorf("ClusterRoleBinding %s gives it more", binding.Name)
		}
	}
	for _, binding := range find[*rbacv1.RoleBinding](objs) {
		if slices.ContainsFunc(binding.Subjects, func(s rbacv1.Subject) bool { return s.Name == account }) && binding.RoleRef.Name != account {
			t.Errorf("RoleBinding %s gives it more", binding.Name)
		}
	}
	everywhere, home := given(t, objs, "godwit-node")
	for _, rule := range append(everywhere, home...) {
		if slices.Contains(rule.Resources, "serviceaccounts/token") && !slices.Equal(rule.ResourceNames, []string{account}) {
			t.Errorf("a node can make tokens of %v", rule.ResourceNames)
		}
	}
}

// TestCommandsOnlyWhereTheyAreEnabled: a right to run commands in pods is not
// given by the way.
func TestCommandsOnlyWhereTheyAreEnabled(t *testing.T) {
	for enabled, args := range map[bool][]string{false: nil, true: {"--set", "rules.enabled=true"}} {
		objs := decode(t, render(t, append(args, "--set", "target.clusterWide=false")...))
		everywhere, _ := given(t, objs, "godwit-controller")
		if gives(everywhere, "", "pods/exec", "create") != enabled {
			t.Errorf("rules.enabled=%t, and the right to run commands in pods is %t", enabled, !enabled)
		}
	}
}
