package node

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// A driver without mounts publishes a link to a folder: it is followed only
// where plain files were asked for, and what is behind it is what is read.
func TestDirectoryBehindALink(t *testing.T) {
	t.Parallel()
	kubelet, folder := t.TempDir(), t.TempDir()
	m := api.VolumeMount{PersistentVolume: "pv", PodUID: types.UID("uid")}
	mount := filepath.Join(kubelet, "pods", "uid", "volumes", "kubernetes.io~csi", "pv", "mount")
	if err := os.MkdirAll(filepath.Dir(mount), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(folder, mount); err != nil {
		t.Fatal(err)
	}
	path, root, err := published{kubeletDir: kubelet, plainFiles: true}.directory(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Close(); err != nil || path != folder {
		t.Errorf("got %s (%v), want %s", path, err, folder)
	}
	if _, _, err := (published{kubeletDir: kubelet}).directory(m); err == nil {
		t.Error("a link was followed where mounts are expected")
	}
}
