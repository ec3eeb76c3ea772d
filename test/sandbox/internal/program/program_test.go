package program

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStampedVersionIsTheLinkedOne(t *testing.T) {
	source, err := FindSource("")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(source, "programs/kube/go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "k8s.io/kubernetes "+KubernetesVersion+"\n") {
		t.Errorf("programs/kube/go.mod does not require k8s.io/kubernetes %s: KubernetesVersion must follow it", KubernetesVersion)
	}
}

func TestKeyFollowsWhatIsCompiled(t *testing.T) {
	source := t.TempDir()
	write := func(file, text string) {
		t.Helper()
		file = filepath.Join(source, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := func(s Set) string {
		t.Helper()
		k, err := s.key(source)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	own := Set{Name: "own", Dir: "own", Packages: []string{"."}, Whole: true}
	named := Set{Name: "named", Dir: "named", Packages: []string{"example.org/cmd"}}
	for _, dir := range []string{"own", "named"} {
		write(dir+"/go.mod", "module x\n")
		write(dir+"/x.go", "package x\n")
	}
	first, firstNamed := key(own), key(named)
	write("own/x_test.go", "package x\n")
	write("named/x.go", "package x // other words\n")
	if key(own) != first || key(named) != firstNamed {
		t.Error("a key changed with what is not compiled")
	}
	write("own/deep/y.go", "package deep\n")
	if key(own) == first {
		t.Error("the key did not follow a source file in a subfolder")
	}
	write("named/go.mod", "module x\n\nrequire example.org v1.2.3\n")
	if key(named) == firstNamed {
		t.Error("the key did not follow go.mod")
	}
	if _, err := (Set{Name: "gone", Dir: "gone"}).key(source); err == nil {
		t.Error("a set without sources has a key")
	}
}

func TestFindSourceSaysWhatToDo(t *testing.T) {
	if dir, err := FindSource(t.TempDir()); err == nil || !strings.Contains(err.Error(), "--source") {
		t.Errorf("FindSource = %q, %v; want an error that names --source", dir, err)
	}
}
