package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/godwit-io/godwit/test/sandbox/internal/process"
	"github.com/godwit-io/godwit/test/sandbox/internal/sandbox"
)

// trial is one sandbox under test, driven through its command line.
type trial struct {
	*testing.T
	program, dir string
}

func (t trial) sandbox(args ...string) string {
	t.Helper()
	return t.run(t.program, append([]string{"--dir", t.dir}, args...)...)
}

func (t trial) kubectl(args ...string) string {
	t.Helper()
	return t.sandbox(append([]string{"shell", "e2e", "--", "kubectl"}, args...)...)
}

func (t trial) run(program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(program), strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

const application = `apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: default}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: app, namespace: default}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: sandbox.local/busybox:1
    command: [sh, -c, "[ -f /data/first ] || { echo kept > /data/first; sync; }; exec sleep 1000000"]
    readinessProbe: {exec: {command: [test, -f, /data/first]}, periodSeconds: 1}
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
`

// TestClusterLivesThroughACrashAndLeavesNothing brings a cluster of two nodes up, runs a pod with a
// volume, kills everything, brings it up again, and takes it down.
func TestClusterLivesThroughACrashAndLeavesNothing(t *testing.T) {
	if os.Getenv("GODWIT_E2E") == "" || os.Geteuid() != 0 {
		t.Skip("needs root and GODWIT_E2E=1: it makes namespaces, mounts and loop devices")
	}
	tr := trial{T: t, program: filepath.Join(t.TempDir(), "sandbox"), dir: t.TempDir()}
	tr.run("go", "build", "-o", tr.program, ".")
	before := leftovers(t)
	t.Cleanup(func() {
		if t.Failed() { // leave no cluster behind; what went wrong was told
			_ = exec.Command(tr.program, "down", "--purge", "--dir", tr.dir).Run() //nolint:noctx // our own program
		}
	})
	tr.sandbox("up", "--clusters", "e2e", "--nodes", "2")
	manifest := filepath.Join(tr.dir, "app.yaml")
	if err := os.WriteFile(manifest, []byte(application), 0o600); err != nil {
		t.Fatal(err)
	}
	tr.kubectl("apply", "-f", manifest)
	tr.kubectl("wait", "--for=condition=Ready", "pod/app", "--timeout=60s")

	tr.crash()
	if out := tr.sandbox("status"); !strings.Contains(out, "0/2 up") {
		t.Errorf("status after the crash:\n%s", out)
	}
	tr.sandbox("up", "--clusters", "e2e")
	tr.kubectl("wait", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/app", "--timeout=60s")
	tr.kubectl("wait", "--for=condition=Ready", "pod/app", "--timeout=60s")
	if got := tr.kubectl("exec", "app", "--", "cat", "/data/first"); got != "kept\n" {
		t.Errorf("the volume holds %q after the crash", got)
	}

	tr.sandbox("down", "--purge")
	if after := leftovers(t); after != before {
		t.Errorf("down left something. Before:\n%s\nAfter:\n%s", before, after)
	}
	if left, err := os.ReadDir(tr.dir); err != nil || len(left) != 1 || left[0].Name() != filepath.Base(manifest) {
		t.Errorf("in its folder down left %v: %v", left, err)
	}
}

// crash kills every first process of a node and the object store, as a machine that goes down does.
func (t trial) crash() {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(t.dir, "clusters/*/nodes/*/init.json"))
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, filepath.Join(t.dir, "s3/process.json"))
	for _, f := range files {
		id, err := process.Load(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := id.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := id.WaitGone(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// leftovers lists what sandboxes have on this machine: other sandboxes may be up meanwhile.
func leftovers(t *testing.T) string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"/sys/class/net/gwsb*", "/sys/fs/cgroup/*/gwsb*", "/sys/fs/cgroup/gwsb*", "/run/godwit-sandbox/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range loops {
		if b, err := os.ReadFile(l); err == nil && strings.Contains(string(b), t.Name()) {
			all = append(all, string(b))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range strings.Split(string(mounts), "\n") {
		if strings.Contains(m, t.Name()) {
			all = append(all, m)
		}
	}
	return strings.Join(all, "\n")
}

func TestUnknownClusterSaysWhatToDo(t *testing.T) {
	box := sandbox.Sandbox{Dir: t.TempDir()}
	if _, err := box.Cluster("nope"); err == nil || !strings.Contains(err.Error(), "sandbox up") {
		t.Errorf("error %v names no remedy", err)
	}
}
