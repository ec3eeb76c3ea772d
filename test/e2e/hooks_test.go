package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// TestRulesAndHooks moves an application whose rule writes a lock to the volume
// and holds it: the target's copy has the lock, and nothing of what was written
// once it was let go. Around that hooks run in order on both clusters, one of
// which may fail, and one of which is a playbook that changes the target.
func TestRulesAndHooks(t *testing.T) {
	g, ctx := besideOthers(t)
	app := scenario.Vault("ruled", 1)
	must(t, g.StartPaired(ctx, app, "west"))
	must(t, g.Source.Apply(ctx, []byte(rulesOf(app.Namespace))))
	must(t, g.LoadHookRunner(ctx, g.Target))
	must(t, g.Source.Apply(ctx, []byte(migration(app.Namespace, "ruled", "west", app.Namespace)+`  preExecRule: lock
  postExecRule: after
  hooks:
  - {name: last, phase: PostRestore, image: "godwit-io/demo-app:dev", command: [bash, -c, "echo last ran"]}
  - {name: first, phase: PreBackup, image: "godwit-io/demo-app:dev", command: [bash, -c, "echo first ran in $GODWIT_PHASE"]}
  - {name: fails, phase: PreBackup, image: "godwit-io/demo-app:dev", command: [bash, -c, "echo no luck; exit 3"], backoffLimit: 0, onFailure: Continue}
  - {name: book, phase: PostBackup, image: "godwit-io/demo-app:dev", command: [cat, /godwit/hook/playbook.yml], playbook: {configMap: books}}
  - {name: play, phase: PostRestore, playbook: {configMap: books, key: open.yml}, serviceAccountName: doorman, securityContext: {runAsUser: 1001}}
`)))
	m, err := g.AwaitSuccess(ctx, app.Namespace, "ruled", scenario.Long)
	must(t, err)
	var ran []string
	for _, h := range m.Status.Hooks {
		log := h.Log
		if h.Name == "play" {
			_, log, _ = strings.Cut(log, "PLAY RECAP ")
			log = strings.Join(strings.Fields(strings.Trim(log, "*")), " ")
		}
		ran = append(ran, fmt.Sprintf("%s %s %s: %s", h.Name, h.Cluster, h.State, log))
	}
	if got, want := strings.Join(ran, "; "), "first Source Succeeded: first ran in PreBackup; fails Source Failed: no luck; book Source Succeeded: - hosts: localhost; last Target Succeeded: last ran; "+
		"play Target Succeeded: localhost : ok=1 changed=1 unreachable=0 failed=0 skipped=0 rescued=0 ignored=0"; got != want {
		t.Errorf("hooks: %s, want %s", got, want)
	}
	lockedOn(ctx, t, g.Source, app.Namespace, "after")
	must(t, g.AwaitRunning(ctx, g.Target, app))
	lockedOn(ctx, t, g.Target, app.Namespace, "locked")
	opened, err := g.Target.Kubectl(ctx, "-n", app.Namespace, "get", "configmap", "opened", "-o", "jsonpath={.data.by} as {.data.as}")
	if err != nil || opened != "play of ruled/ruled as 1001" {
		t.Errorf("the playbook left %q on the target (%v)", opened, err)
	}
	logsTell(ctx, t, g, app.Namespace, m)
	must(t, g.DeleteMigration(ctx, app.Namespace, "ruled"))
	must(t, g.AwaitNothingLeftOf(ctx, app.Namespace, scenario.Soon))
	for _, c := range []scenario.Cluster{g.Source, g.Target} {
		left, err := c.Kubectl(ctx, "get", "jobs,configmaps,pods", "-n", app.Namespace, "-l", "godwit.io/hook-round", "-o", "name")
		if err != nil || left != "" {
			t.Errorf("cluster %s keeps %s (%v)", c.Name, left, err)
		}
	}
}

func rulesOf(namespace string) string {
	return strings.ReplaceAll(`apiVersion: godwit.io/v1alpha1
kind: Rule
metadata: {name: lock, namespace: NS}
rules:
- podSelector: {app: vault}
  actions:
  - {type: command, background: true, value: "touch /data/locked; sync; ${WAIT_CMD}; rm /data/locked; touch /data/let-go; sync"}
---
apiVersion: godwit.io/v1alpha1
kind: Rule
metadata: {name: after, namespace: NS}
rules:
- podSelector: {app: vault}
  actions:
  - {type: command, value: "[ -e /data/let-go ] && touch /data/after && sync"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: books, namespace: NS}
data:
  playbook.yml: "- hosts: localhost"
  open.yml: |
    - hosts: localhost
      gather_facts: false
      tasks:
      - name: say that the application is here
        kubernetes.core.k8s:
          definition:
            apiVersion: v1
            kind: ConfigMap
            metadata: {name: opened, namespace: NS}
            data: {by: "{{ lookup('env', 'GODWIT_HOOK') }} of {{ lookup('env', 'GODWIT_APPLICATION') }}", as: "{{ lookup('pipe', 'id -u') }}"}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: doorman, namespace: NS}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: doorman, namespace: NS}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, create, patch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: doorman, namespace: NS}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: doorman}
subjects: [{kind: ServiceAccount, name: doorman, namespace: NS}]
`, "NS", namespace)
}

// lockedOn sees which of the rules' marks the volume has: those from before the
// snapshot, or those from after it.
func lockedOn(ctx context.Context, t *testing.T, c scenario.Cluster, namespace, want string) {
	t.Helper()
	marks, err := c.Kubectl(ctx, "-n", namespace, "exec", "deployment/vault", "--", "bash", "-c", "cd /data && ls -d locked let-go after 2>/dev/null | tr '\\n' ' '")
	must(t, err)
	if has := strings.TrimSpace(marks); has != map[string]string{"after": "after let-go", "locked": "locked"}[want] {
		t.Errorf("on cluster %s the volume has the marks %q", c.Name, has)
	}
}

// logsTell sees that both clusters' processes, events and hooks are told in time,
// and that the archive has no key of the store.
func logsTell(ctx context.Context, t *testing.T, g *scenario.Ground, namespace string, m api.Migration) {
	t.Helper()
	other := []string{"--target-kubeconfig", g.Target.Kubeconfig}
	logs, err := g.Godwitctl(ctx, g.Source, append([]string{"-n", namespace, "logs", "migration", m.Name}, other...)...)
	must(t, err)
	for _, want := range []string{"source event Warning HookFailed", "target hook last last ran", "source godwit-", "source hook fails no luck", "target hook play PLAY RECAP"} {
		if !strings.Contains(logs, want) {
			t.Errorf("the logs do not say %q", want)
		}
	}
	file := filepath.Join(t.TempDir(), "gathered.tar.gz")
	said, err := g.Godwitctl(ctx, g.Source, append([]string{"must-gather", "-f", file}, other...)...)
	must(t, err)
	text, err := exec.CommandContext(ctx, "tar", "-xzOf", file).Output()
	must(t, err)
	if !strings.Contains(string(text), "first ran in PreBackup") {
		t.Errorf("the archive of %d bytes does not tell of the Migration: %s", len(text), said)
	}
	leaks, secrets, err := g.LeaksIn(ctx, map[string]string{"the archive": string(text)})
	must(t, err)
	if len(leaks) > 0 || secrets == 0 {
		t.Errorf("of %d secrets: %v", secrets, leaks)
	}
	t.Logf("the archive has %d bytes of text and none of %d secrets", len(text), secrets)
}
