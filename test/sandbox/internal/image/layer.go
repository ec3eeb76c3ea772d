package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Layer collects the files of an image into a tar file. A path that comes twice keeps the first
// content, as when a package replaces another's file; folders merge.
type Layer struct {
	file *os.File
	tw   *tar.Writer
	seen map[string]byte
}

// NewLayer begins a layer in a temporary file in dir. Close it.
func NewLayer(dir string) (*Layer, error) {
	f, err := os.CreateTemp(dir, ".layer-")
	if err != nil {
		return nil, err
	}
	return &Layer{file: f, tw: tar.NewWriter(f), seen: map[string]byte{}}, nil
}

// Close removes the temporary file.
func (l *Layer) Close() error { return errors.Join(l.file.Close(), os.Remove(l.file.Name())) }

// Finish ends the tar and returns its path, which is good until Close.
func (l *Layer) Finish() (string, error) { return l.file.Name(), l.tw.Close() }

// epoch is the time of everything whose own time is of no meaning.
func epoch() time.Time { return time.Unix(0, 0) }

// put writes an entry unless its path is there; it makes the folders above.
func (l *Layer) put(h tar.Header, content io.Reader) error {
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	if name == "" {
		return nil
	}
	if kind, ok := l.seen[name]; ok {
		if kind != h.Typeflag && (kind == tar.TypeDir) != (h.Typeflag == tar.TypeDir) && kind != tar.TypeSymlink {
			return fmt.Errorf("/%s is a folder and a file", name)
		}
		return nil
	}
	if dir := path.Dir(name); dir != "." {
		if err := l.Folder(dir, 0o755, 0); err != nil {
			return err
		}
	}
	l.seen[name] = h.Typeflag
	h.Name, h.Format, h.Uname, h.Gname = name, tar.FormatPAX, "", ""
	if h.ModTime.IsZero() {
		h.ModTime = epoch()
	}
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	if err := l.tw.WriteHeader(&h); err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	if content == nil {
		return nil
	}
	if _, err := io.Copy(l.tw, content); err != nil {
		return fmt.Errorf("/%s: %w", name, err)
	}
	return nil
}

// Folder adds an empty folder.
func (l *Layer) Folder(name string, mode int64, owner int) error {
	return l.put(tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode, Uid: owner, Gid: owner}, nil)
}

// Text adds a small file.
func (l *Layer) Text(name, text string, mode int64) error {
	return l.put(tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(text))}, strings.NewReader(text))
}

// Link adds a symbolic link.
func (l *Layer) Link(name, target string) error {
	return l.put(tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}, nil)
}

// Copy adds a file or a folder of the host, owned by root, with its permissions.
func (l *Layer) Copy(src, dst string) error {
	return filepath.WalkDir(src, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		info, err := os.Stat(p) // a link is copied as what it leads to: it may lead out of src
		if err != nil {
			return err
		}
		return l.copyOne(p, path.Join(dst, filepath.ToSlash(rel)), info)
	})
}

func (l *Layer) copyOne(src, dst string, info os.FileInfo) error {
	if info.IsDir() {
		return l.Folder(dst, int64(info.Mode().Perm()), 0)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("copy %s: neither file nor folder", src)
	}
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	return l.put(tar.Header{Name: dst, Typeflag: tar.TypeReg, Mode: int64(info.Mode().Perm()), Size: info.Size()}, f)
}

// useless reports whether a packaged file is for people at a keyboard.
func useless(name string) bool {
	name = path.Clean("/" + name)
	for _, dir := range []string{"/usr/share/doc/", "/usr/share/man/", "/usr/share/info/", "/usr/share/lintian/", "/usr/share/locale/", "/usr/share/bug/"} {
		if strings.HasPrefix(name, dir) {
			return true
		}
	}
	return false
}

// Merge adds the entries of a tar, such as a Debian package's, with owners and times, but without
// manuals and translations.
func (l *Layer) Merge(r io.Reader) error {
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if useless(h.Name) {
			continue
		}
		var content io.Reader
		if h.Typeflag == tar.TypeReg {
			content = tr
		}
		if h.Typeflag == tar.TypeLink {
			h.Linkname = strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
		}
		if err := l.put(*h, content); err != nil {
			return err
		}
	}
}
