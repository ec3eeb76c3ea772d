package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// errUnpublished says that the volume is not where kubelet publishes it. It may
// be so for a while, as after a restart of the node.
var errUnpublished = errors.New("the volume is not published on this node")

const (
	modeBlock      = "Block"
	modeFilesystem = "Filesystem"
)

// published finds volumes under kubelet's root.
type published struct {
	kubeletDir string
	plainFiles bool
}

// device returns the path of a published block device.
func (p published) device(m api.VolumeMount) (string, error) {
	if err := checkNames(m); err != nil {
		return "", err
	}
	path := filepath.Join(p.kubeletDir, "plugins/kubernetes.io/csi/volumeDevices/publish", m.PersistentVolume, string(m.PodUID))
	info, err := os.Stat(path)
	if err != nil {
		return "", unpublished(path, err)
	}
	isDevice := info.Mode()&os.ModeDevice != 0 && info.Mode()&os.ModeCharDevice == 0
	if !isDevice && (!p.plainFiles || !info.Mode().IsRegular()) {
		return "", fmt.Errorf("%w: %s is no block device; does its holder pod still run?", errUnpublished, path)
	}
	return path, nil
}

// directory returns the path of a published, mounted volume, and the open root
// of it. As long as that is open kubelet cannot unmount the volume, so that
// nothing is written into the bare folder below.
func (p published) directory(m api.VolumeMount) (string, *os.File, error) {
	if err := checkNames(m); err != nil {
		return "", nil, err
	}
	path := filepath.Join(p.kubeletDir, "pods", string(m.PodUID), "volumes", "kubernetes.io~csi", m.PersistentVolume, "mount")
	if p.plainFiles { // In place of a mount there may be a link to the folder.
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return "", nil, unpublished(path, err)
		}
		path = real
	}
	root, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW|os.O_RDONLY, 0) //nolint:gosec // its parts were checked
	if err != nil {
		return "", nil, unpublished(path, err)
	}
	mounted, err := isMountRoot(root)
	if err == nil && !mounted && !p.plainFiles {
		err = fmt.Errorf("%w: nothing is mounted on %s; does its holder pod still run?", errUnpublished, path)
	}
	if err != nil {
		return "", nil, errors.Join(err, root.Close())
	}
	return path, root, nil
}

// checkNames refuses names that would lead out of kubelet's folders.
func checkNames(m api.VolumeMount) error {
	for _, name := range []string{m.PersistentVolume, string(m.PodUID)} {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return final("the transfer names a volume or a pod %q: make another transfer", name)
		}
	}
	return nil
}

func isMountRoot(f *os.File) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return false, fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return false, fmt.Errorf("look at %s: the kernel does not tell what is mounted: it must be 5.8 or newer", f.Name())
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

func unpublished(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s does not exist; does its holder pod still run?", errUnpublished, path)
	}
	return fmt.Errorf("look at the published volume: %w", err)
}
