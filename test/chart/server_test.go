package chart

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// TestServerTakesTheObjects gives what the chart renders, kinds first, to a real
// API server, which knows rules that types do not have.
func TestServerTakesTheObjects(t *testing.T) {
	program := os.Getenv("GODWIT_KUBE_BIN")
	if program == "" {
		t.Skip("needs GODWIT_KUBE_BIN: make test sets it")
	}
	log.SetLogger(logr.Discard())
	environment := &envtest.Environment{
		BinaryAssetsDirectory: binaries(t, program), ControlPlaneStartTimeout: time.Minute,
		CRDDirectoryPaths: []string{filepath.Join(root(t), "deploy", "chart", "crds")}, ErrorIfCRDPathMissing: true,
	}
	config, err := environment.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := environment.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "godwit-system"}}); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{nil, everything()} {
		for _, obj := range decode(t, render(t, args...)) {
			if err := c.Create(t.Context(), obj, client.DryRunAll, client.FieldValidation("Strict")); err != nil {
				t.Errorf("%T %s: %v", obj, obj.GetName(), err)
			}
		}
	}
}

// binaries is a folder with etcd and kube-apiserver: the program itself, or one
// in which it is both by the name it is called by.
func binaries(t *testing.T, program string) string {
	t.Helper()
	info, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		return program
	}
	folder := t.TempDir()
	for _, name := range []string{"etcd", "kube-apiserver", "kubectl"} {
		if err := os.Symlink(program, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}
