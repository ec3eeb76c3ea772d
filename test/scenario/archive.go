package scenario

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// Archive is the application for clusters without containers: a raw volume, a
// volume with a filesystem on block storage, a shared tree, and objects of every
// common kind. Nobody runs in its pods: Fill writes what they would.
func Archive(namespace string) App {
	return App{Namespace: namespace, manifest: "archive.yaml", workloads: []string{
		"statefulset/books", "deployment/ledger", "deployment/uploads", "deployment/writer",
	}}
}

// What the archive's claims are called.
const (
	ledgerClaim  = "ledger"
	booksClaim   = "data-books-0"
	uploadsClaim = "uploads"
)

// The ledger's bytes: its mark, what follows at an offset, and its last bytes.
const (
	ledgerMark   = "GODWIT"
	ledgerOffset = 8 << 20
	ledgerLength = 20 << 20
	ledgerEnd    = "the last bytes"
)

// published is where a claim's volume is seen on this machine, as the pod that
// uses it would see it.
func (g *Ground) published(ctx context.Context, c Cluster, namespace, claim string) (string, error) {
	pvc, err := Get[corev1.PersistentVolumeClaim](ctx, c, "-n", namespace, "pvc", claim)
	if err != nil {
		return "", err
	}
	pods, err := Get[corev1.PodList](ctx, c, "-n", namespace, "pods", "--field-selector", "status.phase=Running")
	if err != nil {
		return "", err
	}
	b, err := g.sandbox.beside(ctx, c.Name)
	if err != nil {
		return "", err
	}
	kind, below := "volumes", "mount"
	if pvc.Spec.VolumeMode != nil && *pvc.Spec.VolumeMode == corev1.PersistentVolumeBlock {
		kind, below = "volumeDevices", ""
	}
	for _, pod := range pods.Items {
		for _, v := range pod.Spec.Volumes {
			if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim && pod.DeletionTimestamp == nil {
				path := filepath.Join(b.KubeletDir, "pods", string(pod.UID), kind, "kubernetes.io~csi", pvc.Spec.VolumeName, below)
				return filepath.EvalSymlinks(path)
			}
		}
	}
	return "", fmt.Errorf("cluster %s: no running pod uses claim %s/%s", c.Name, namespace, claim)
}

// Fill writes what the archive's containers would write, if they ran.
func (g *Ground) Fill(ctx context.Context, a App) error {
	for claim, fill := range map[string]func(string) error{ledgerClaim: fillLedger, booksClaim: fillBooks, uploadsClaim: fillUploads} {
		path, err := g.published(ctx, g.Source, a.Namespace, claim)
		if err != nil {
			return err
		}
		if err := fill(path); err != nil {
			return fmt.Errorf("fill the volume of claim %s/%s: %w", a.Namespace, claim, err)
		}
	}
	return nil
}

// ledgerBytes are the same each time.
func ledgerBytes() io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte([]byte("the ledger's bytes are known.   "))), ledgerLength)
}

func fillLedger(path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte(ledgerMark), 0); err != nil {
		return err
	}
	if _, err := io.Copy(io.NewOffsetWriter(f, ledgerOffset), ledgerBytes()); err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte(ledgerEnd), info.Size()-int64(len(ledgerEnd))); err != nil {
		return err
	}
	return f.Sync()
}

// file is a file to write.
type file struct {
	name, text string
	mode       os.FileMode
}

func writeFiles(root string, files []file) error {
	for _, f := range files {
		path := filepath.Join(root, f.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(f.text), 0o600); err != nil {
			return err
		}
		if err := os.Chmod(path, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// fillBooks leaves out what the driver of plain files loses: hard links,
// attributes and owners.
func fillBooks(root string) error {
	files := []file{
		{name: "a name with spaces", text: "spaces", mode: 0o644},
		{name: "Zugvögel-雁", text: "unicode", mode: 0o640},
		{name: "empty", mode: 0o600},
		{name: "deep/er/and/deeper/file", text: "deep", mode: 0o444},
		{name: "script", text: "#!/bin/sh\n", mode: 0o755},
	}
	for i := range 200 {
		files = append(files, file{name: fmt.Sprintf("shelf-%d/book-%d", i%10, i), text: fmt.Sprintf("book %d\n", i), mode: 0o644})
	}
	if err := writeFiles(root, files); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(root, "large"), bytes.Repeat([]byte("a large book; "), 300000), 0o600),
		os.Mkdir(filepath.Join(root, "an empty folder"), 0o755),
		os.Symlink("shelf-1/book-1", filepath.Join(root, "link")),
		os.Symlink("/nowhere/at/all", filepath.Join(root, "dangling")),
	)
}

func fillUploads(root string) error {
	files := []file{
		{name: "a name with spaces", text: "spaces", mode: 0o644},
		{name: "a name with a\nline break", text: "line\nbreak", mode: 0o644},
		{name: "Zugvögel-雁-🪿", text: "unicode", mode: 0o644},
		{name: "empty", mode: 0o644},
		{name: "deep/er/and/deeper/file", text: "deep", mode: 0o400},
		{name: "private", text: "private", mode: 0o600},
		{name: "setuid", text: "setuid", mode: 0o755 | os.ModeSetuid},
		{name: "first-name", text: "linked", mode: 0o644},
		{name: "attributes", text: "attributes", mode: 0o644},
		{name: "sparse", mode: 0o644},
	}
	for i := range 300 {
		files = append(files, file{name: fmt.Sprintf("year-%d/picture-%d.jpg", i%15, i), text: fmt.Sprintf("picture %d\n", i), mode: 0o644})
	}
	if err := writeFiles(root, files); err != nil {
		return err
	}
	in := func(name string) string { return filepath.Join(root, name) }
	old := time.Date(2001, 2, 3, 4, 5, 6, 123456789, time.UTC)
	return errors.Join(
		os.Mkdir(in("an empty folder"), 0o755),
		os.Symlink("year-1/picture-1.jpg", in("link")),
		os.Symlink("/nowhere/at/all", in("dangling")),
		os.Link(in("first-name"), in("second-name")),
		os.Link(in("first-name"), in("deep/third-name")),
		unix.Mkfifo(in("pipe"), 0o640),
		unix.Setxattr(in("attributes"), "user.colour", []byte("grey"), 0),
		unix.Setxattr(in("deep"), "user.folder", []byte("yes"), 0),
		writeEnd(in("sparse"), 32<<20),
		os.Chmod(in("deep"), 0o777|os.ModeSticky),
		os.Chtimes(in("private"), old, old),
		os.Chtimes(in("year-2"), old, old),
	)
}

// writeEnd makes a file with nothing but a few bytes at its end.
func writeEnd(path string, offset int64) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.WriteAt([]byte("end"), offset)
	return err
}

// VerifyArchive compares all of the archive. It goes on after a difference, so
// that one run tells everything.
func (g *Ground) VerifyArchive(ctx context.Context, a App) ([]Finding, error) {
	var findings []Finding
	var problems []error
	for _, verify := range []func(context.Context, App) (Finding, error){
		g.verifyLedgerFile, g.verifyBooks, g.verifyUploadsFolder, g.VerifyObjects,
	} {
		f, err := verify(ctx, a)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		findings = append(findings, f)
	}
	return findings, errors.Join(problems...)
}

// bothSides is where a claim's volume is seen in the source and in the target.
func (g *Ground) bothSides(ctx context.Context, a App, claim string) (source, target string, err error) {
	if source, err = g.published(ctx, g.Source, a.Namespace, claim); err != nil {
		return "", "", err
	}
	target, err = g.published(ctx, g.Target, a.Namespace, claim)
	return source, target, err
}

// verifyLedgerFile compares the raw volume byte for byte, and holds it against
// what was written into it.
func (g *Ground) verifyLedgerFile(ctx context.Context, a App) (Finding, error) {
	const what = "raw volume"
	source, target, err := g.bothSides(ctx, a, ledgerClaim)
	if err != nil {
		return Finding{}, fmt.Errorf("%s: %w", what, err)
	}
	var sums [2]string
	var size int64
	for i, path := range []string{source, target} {
		if size, sums[i], err = sumOf(path); err != nil {
			return Finding{}, fmt.Errorf("%s: %w", what, err)
		}
	}
	if sums[0] != sums[1] {
		return Finding{}, fmt.Errorf("%s: sha256 is %s in the source and %s in the target", what, sums[0], sums[1])
	}
	written, err := ledgerSum(size)
	if err != nil {
		return Finding{}, err
	}
	if sums[1] != written {
		return Finding{}, fmt.Errorf("%s: sha256 is %s in both, and what was written has %s", what, sums[1], written)
	}
	return Finding{What: what, Detail: fmt.Sprintf("%d bytes in both as they were written, sha256 %s", size, written)}, nil
}

func sumOf(path string) (int64, string, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer f.Close() //nolint:errcheck // read only
	h := sha256.New()
	size, err := io.Copy(h, f)
	return size, hex.EncodeToString(h.Sum(nil)), err
}

// ledgerSum is the hash of what fillLedger writes into a volume of the size.
func ledgerSum(size int64) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, io.MultiReader(
		bytes.NewReader([]byte(ledgerMark)), zeros(ledgerOffset-int64(len(ledgerMark))), ledgerBytes(),
		zeros(size-ledgerOffset-ledgerLength-int64(len(ledgerEnd))), bytes.NewReader([]byte(ledgerEnd)),
	))
	return hex.EncodeToString(h.Sum(nil)), err
}

func zeros(n int64) io.Reader { return io.LimitReader(zeroReader{}, n) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// verifyBooks compares the volume with a filesystem. The driver of plain files
// packs folders into filesystems and out of them again without mounting them,
// which keeps no owners and no parts of seconds.
func (g *Ground) verifyBooks(ctx context.Context, a App) (Finding, error) {
	return g.verifyFolder(ctx, a, "volume with a filesystem", booksClaim, func(e *entry) { e.owner, e.modified = "", "" })
}

func (g *Ground) verifyUploadsFolder(ctx context.Context, a App) (Finding, error) {
	return g.verifyFolder(ctx, a, "shared tree", uploadsClaim, func(*entry) {})
}

func (g *Ground) verifyFolder(ctx context.Context, a App, what, claim string, leaveOut func(*entry)) (Finding, error) {
	source, target, err := g.bothSides(ctx, a, claim)
	if err != nil {
		return Finding{}, fmt.Errorf("%s: %w", what, err)
	}
	var both [2]listing
	for i, path := range []string{source, target} {
		if both[i], err = walk(path, leaveOut); err != nil {
			return Finding{}, fmt.Errorf("%s: %w", what, err)
		}
	}
	if err := both[0].compare(both[1]); err != nil {
		return Finding{}, fmt.Errorf("%s: %w", what, err)
	}
	if len(both[0]) < 200 {
		return Finding{}, fmt.Errorf("%s: it has only %d names: the archive has more", what, len(both[0]))
	}
	return Finding{What: what, Detail: both[0].summary()}, nil
}
