package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godwit-io/godwit/test/scenario"
)

// exemption is a right that TestRights cannot take away.
type exemption struct {
	right, why string
	// file has the call that needs the right.
	file, call string
	// mayBe says that it depends on the course of things whether it is asked for.
	mayBe bool
}

func exemptions() []exemption {
	const (
		elsewhere = "beside a cluster there is one controller, and it elects no leader; make e2e does"
		sidecars  = "a storage's sidecar runs as a pod beside its driver; make e2e has one (TestStorageIsAskedWhatToRead)"
		server    = "the API server asks for it itself, when a Role or a RoleBinding that is written gives more than the controller has: TestServerAsksForMore"
	)
	all := []exemption{
		{"controller: list events", "read when a volume does not come to its node", "snapshot/csi/holder.go", "s.live.List(ctx, &events", true},
		{"controller: list csinodes.storage.k8s.io", "asked for where a CSI volume is handed over, and beside a cluster no storage is both clusters'", "daemon/target/move.go", "s.Live.List(ctx, &nodes)", false},
		{"node: get snapshotmetadataservices.cbt.storage.k8s.io", sidecars, "daemon/node/sidecars.go", "s.Live.Get(ctx, types.NamespacedName{Name: of.Driver}", true},
		{"node: create serviceaccounts/token in godwit-system", sidecars, "daemon/node/sidecars.go", `s.Client.SubResource("token").Create(`, true},
	}
	for right, call := range map[string][2]string{
		"controller: patch volumegroupsnapshotcontents.groupsnapshot.storage.k8s.io": {"snapshot/csi/group.go", "s.client.Patch(ctx, content, patch)"},
		"controller: patch volumesnapshotcontents.snapshot.storage.k8s.io":           {"snapshot/csi/release.go", "s.client.Patch(ctx, c, patch)"},
		"controller: patch volumesnapshots.snapshot.storage.k8s.io":                  {"snapshot/csi/adopt.go", "s.client.Patch(ctx, obj,"},
		"controller: patch volumetransfers.godwit.io":                                {"daemon/transfer/transfer.go", "t.Client.Patch(ctx, one,"},
		"controller: patch drills.godwit.io":                                         {"daemon/target/drill.go", "x.Client.Patch(ctx, x.d,"},
		"controller: get nodes":                                                      {"daemon/transfer/transfer.go", "t.Live.Get(ctx, types.NamespacedName{Name: name}, &node)"},
		"controller: update *.*":                                                     {"daemon/target/drillplace.go", "x.Client.Update(ctx, policy)"},
		"controller: patch events.events.k8s.io":                                     {"cmd/godwitd/controller.go", "GetEventRecorder("},
		"node: patch events.events.k8s.io in godwit-system":                          {"daemon/node/node.go", "GetEventRecorder("},
	} {
		all = append(all, exemption{right, "of what failed, was said twice, or was kept from before", call[0], call[1], true})
	}
	for _, verb := range []string{"get", "create", "update"} {
		all = append(all, exemption{"controller: " + verb + " leases.coordination.k8s.io in godwit-system", elsewhere, "cmd/godwitd/controller.go", "LeaderElection: o.leaderElect", false})
	}
	for _, verb := range []string{"bind", "escalate"} {
		for _, kind := range []string{"roles", "clusterroles"} {
			all = append(all, exemption{"controller: " + verb + " " + kind + ".rbac.authorization.k8s.io", server, "daemon/workload/apply.go", "resource.Apply(", false})
		}
	}
	return all
}

func allRights() ([]right, error) {
	var all []right
	for _, f := range []struct {
		file, account string
		tier          int
	}{
		{"controller.yaml", scenario.ControllerAccount, 0}, {"node.yaml", scenario.NodeAccount, 0},
		{"rules.yaml", scenario.ControllerAccount, 1}, {"hooks.yaml", scenario.ControllerAccount, 1},
		{"objects.yaml", scenario.ControllerAccount, everyKindTier},
	} {
		some, err := rightsOf(f.file, f.account, f.tier)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// kept are the table's rights by their number, with whether they may be asked for. A line that names no right, or a
// call that is not where it says, is an error.
func kept(root string, rights []right) (map[int]bool, error) {
	all := map[int]bool{}
	for _, e := range exemptions() {
		i := slices.IndexFunc(rights, func(r right) bool { return r.String() == e.right })
		if i < 0 {
			return nil, fmt.Errorf("the table has %q, which no role gives", e.right)
		}
		text, err := os.ReadFile(filepath.Join(root, e.file))
		if err != nil {
			return nil, err
		}
		if !strings.Contains(string(text), e.call) {
			return nil, fmt.Errorf("the table says that %s needs %q by %q, which is not there", e.file, e.right, e.call)
		}
		all[i] = e.mayBe
	}
	return all, nil
}

// TestTable holds the table against the roles and the code: each line names a right
// that a role gives, and a call that is where it says.
func TestTable(t *testing.T) {
	t.Parallel()
	rights, err := allRights()
	must(t, err)
	root, err := scenario.Root()
	must(t, err)
	exempt, err := kept(root, rights)
	must(t, err)
	if len(exempt) != len(exemptions()) {
		t.Errorf("%d lines name %d rights", len(exemptions()), len(exempt))
	}
}

// probe may write everything, as the controller may, and of the rights that the
// server asks for itself what is left of them.
const probe = `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: rights-probe}
rules:
- {apiGroups: ["*"], resources: ["*"], verbs: [create, update, patch, delete]}
- {apiGroups: [rbac.authorization.k8s.io], resources: [roles], verbs: [ROLES]}
- {apiGroups: [rbac.authorization.k8s.io], resources: [clusterroles], verbs: [CLUSTERROLES]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: rights-probe}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: rights-probe}
subjects: [{kind: User, name: rights-probe, apiGroup: rbac.authorization.k8s.io}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: rights-probe, namespace: default}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [deletecollection]}]
`

// TestServerAsksForMore takes away the rights that the API server itself asks for
// when somebody writes Roles and RoleBindings, one after the other.
func TestServerAsksForMore(t *testing.T) {
	g, ctx := ground(t)
	t.Cleanup(func() {
		_, err := g.Target.Kubectl(context.WithoutCancel(ctx), "delete", "clusterrole/rights-probe", "clusterrolebinding/rights-probe", "role/rights-probe", "-n", "default")
		must(t, err)
	})
	const head = "apiVersion: rbac.authorization.k8s.io/v1\nmetadata: {name: x, namespace: default}\n"
	const more = "rules: [{apiGroups: [\"\"], resources: [pods], verbs: [deletecollection]}]\n"
	bind := func(kind, name string) string {
		return head + "kind: RoleBinding\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: " + kind + ", name: " + name + "}\nsubjects: [{kind: User, name: x, apiGroup: rbac.authorization.k8s.io}]\n"
	}
	for _, c := range []struct{ without, written string }{
		{"escalate roles", head + "kind: Role\n" + more}, {"escalate clusterroles", head + "kind: ClusterRole\n" + more},
		{"bind roles", bind("Role", "rights-probe")}, {"bind clusterroles", bind("ClusterRole", "cluster-admin")},
	} {
		for _, given := range []bool{true, false} {
			verbs := map[string]string{"roles": "bind, escalate", "clusterroles": "bind, escalate"}
			if verb, kind, _ := strings.Cut(c.without, " "); !given {
				verbs[kind] = strings.Trim(strings.ReplaceAll("bind, escalate", verb, ""), ", ")
			}
			must(t, g.Target.Apply(ctx, []byte(strings.NewReplacer("[CLUSTERROLES]", "["+verbs["clusterroles"]+"]", "[ROLES]", "["+verbs["roles"]+"]").Replace(probe))))
			file := filepath.Join(t.TempDir(), "written.yaml")
			must(t, os.WriteFile(file, []byte(c.written), 0o600))
			// The server learns of rights a moment later.
			must(t, scenario.Await(ctx, 30*time.Second, fmt.Sprintf("writing without %s (given: %t)", c.without, given), func(ctx context.Context) (bool, string, error) {
				_, err := g.Target.Kubectl(ctx, "--as", "rights-probe", "create", "--dry-run=server", "--validate=false", "-f", file)
				return given == (err == nil), fmt.Sprint(err), nil
			}))
		}
	}
}
