package chart

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// TestFlagsAreGodwitds asks godwitd itself for its flags. A flag that it does
// not have would keep every pod from starting.
func TestFlagsAreGodwitds(t *testing.T) {
	program := filepath.Join(t.TempDir(), "godwitd")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/godwitd")
	build.Dir = root(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build godwitd: %v\n%s", err, out)
	}
	objs := decode(t, render(t, everything()...))
	for _, template := range []corev1.PodTemplateSpec{
		one[*appsv1.Deployment](t, objs, "godwit-controller").Spec.Template,
		one[*appsv1.DaemonSet](t, objs, "godwit-node").Spec.Template,
	} {
		args := template.Spec.Containers[0].Args
		help, err := exec.CommandContext(t.Context(), program, args[0], "--help").CombinedOutput()
		if err != nil {
			t.Fatalf("godwitd %s --help: %v\n%s", args[0], err, help)
		}
		for _, arg := range args[1:] {
			flag, _, _ := strings.Cut(arg, "=")
			if !strings.Contains(string(help), " "+flag+" ") {
				t.Errorf("godwitd %s has no flag %s", args[0], flag)
			}
		}
	}
}
