package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
)

// sanityFlavor chooses the flavor of one run: the suite registers its tests in
// a tree that is global to the process, so each flavor has a process.
const sanityFlavor = "CSIDRIVER_TEST_SANITY"

// TestSanity runs csi-test's suite, with real mounts, against each flavor.
func TestSanity(t *testing.T) {
	needRoot(t)
	if flavor, access, fsType := sanityArgs(); flavor != "" {
		sanityOf(t, flavor, access, fsType)
		return
	}
	for _, c := range []struct{ name, flavor, access, fsType string }{
		{"block-cbt-mount", "block-cbt", "mount", "ext4"},
		{"block-cbt-block", "block-cbt", "block", "ext4"},
		{"block-xfs", "block", "mount", "xfs"},
		{"nosnap", "nosnap", "mount", "ext4"},
		{"shared", "shared", "mount", "ext4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(sanityFlavor, c.flavor+" "+c.access+" "+c.fsType)
			out := commandOutput(t, os.Args[0], "-test.run", "^TestSanity$", "-test.v", "-test.timeout", "5m")
			t.Log(summary(out))
		})
	}
}

func sanityOf(t *testing.T, flavor, access, fsType string) {
	p := startDriver(t, stateDir(t), "--flavor", flavor, "--fstype", fsType, "--topology")
	dir := t.TempDir()
	cfg := sanity.NewTestConfig()
	cfg.Address = "unix://" + p.sock
	cfg.TargetPath, cfg.StagingPath = filepath.Join(dir, "target"), filepath.Join(dir, "staging")
	cfg.TestVolumeSize, cfg.TestVolumeExpandSize = 512<<20, 768<<20
	cfg.TestVolumeAccessType = access
	sc := sanity.GinkgoTest(&cfg)
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.RunSpecs(t, "csi-test sanity "+flavor)
	sc.Finalize()
}

func sanityArgs() (flavor, access, fsType string) {
	f := strings.Fields(os.Getenv(sanityFlavor))
	if len(f) != 3 {
		return "", "", ""
	}
	return f[0], f[1], f[2]
}

// summary is the line of the suite that counts what ran.
func summary(out string) string {
	for line := range strings.Lines(out) {
		if strings.Contains(line, "Passed") && strings.Contains(line, "Skipped") {
			return strings.TrimSpace(line)
		}
	}
	return "the suite counted nothing:\n" + out
}
