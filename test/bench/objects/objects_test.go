package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestApplication(t *testing.T) {
	objects, err := application("bench-00")
	if err != nil || len(objects) != objectsOfNamespace {
		t.Fatalf("%d objects: %v", len(objects), err)
	}
	for _, o := range objects {
		if o.GetKind() != "Namespace" && o.GetNamespace() != "bench-00" {
			t.Errorf("%s %s is in namespace %q", o.GetKind(), o.GetName(), o.GetNamespace())
		}
	}
}

func TestSection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "performance.md")
	r := result{Objects: 10_000, Namespaces: 50, Load: "0.5", Runs: []measured{
		{Program: godwitName, Round: 1, Wall: 60, Memory: 250 << 20, Writes: 10_100, Said: "a"}, {Program: kubectlName, Round: 1, Wall: 120, Writes: 10_000},
		{Program: godwitName, Round: 2, Wall: 25, Memory: 200 << 20, Writes: 0, Said: "b"}, {Program: kubectlName, Round: 2, Wall: 110, Writes: 10_000},
	}}
	if err := os.WriteFile(path, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.write(path, time.Unix(0, 0)); err == nil || !strings.Contains(err.Error(), "has no place for it") {
		t.Errorf("a page without a place: %v", err)
	}
	if err := os.WriteFile(path, []byte("before\n"+sectionBegin+"old\n"+sectionEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.write(path, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"before\n", "after\n", "| collect, change and apply | < 90 s    | 60.0 s  | yes |", "| the same again            | < 20 s    | 25.0 s  | no  |", "| first | kubectl | 120.00 s |", "1970-01-01"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("the page lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(string(got), "old") {
		t.Error("the old result is still there")
	}
}
