package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/godwit-io/godwit/test/sandbox/internal/image"
	"github.com/godwit-io/godwit/test/sandbox/internal/program"
)

// busybox is Debian's busybox-static.
const busybox = "/bin/busybox"

// firstImages makes the images that every node has from the start: pause, without which no pod
// runs, and a busybox to try things with.
func (s Sandbox) firstImages(programs program.Programs) ([]string, error) {
	if err := os.MkdirAll(s.path("images"), 0o755); err != nil {
		return nil, err
	}
	pause := s.path("images", "pause.tar")
	err := s.makeImage(pause, "sandbox.local/pause:1", image.Config{Entrypoint: []string{"/pause"}}, func(l *image.Layer) error {
		return l.Copy(programs["pause"], "/pause")
	})
	if err != nil {
		return nil, fmt.Errorf("make image %s: %w", pause, err)
	}
	box := s.path("images", "busybox.tar")
	err = s.makeImage(box, "sandbox.local/busybox:1", image.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}}, func(l *image.Layer) error {
		return errors.Join(image.Basics(l), image.Busybox(l, busybox))
	})
	if err != nil {
		return nil, fmt.Errorf("make image %s: %w", box, err)
	}
	return []string{pause, box}, nil
}

func (s Sandbox) makeImage(out, name string, cfg image.Config, fill func(*image.Layer) error) error {
	layer, err := image.NewLayer(filepath.Dir(out))
	if err != nil {
		return err
	}
	defer layer.Close() //nolint:errcheck // a temporary file
	if err := fill(layer); err != nil {
		return err
	}
	file, err := layer.Finish()
	if err != nil {
		return err
	}
	_, err = image.Write(out, name, file, cfg)
	return err
}
