package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// addedSuffix is how the files of added daemons end; the rest is the daemon's name.
const addedSuffix = ".json"

// AddedFile is where a daemon of this name is described in the folder of added daemons.
func AddedFile(folder, name string) string { return filepath.Join(folder, name+addedSuffix) }

// follow runs the daemons that the folder describes: one whose file comes is started, one whose
// file changes is started anew, one whose file goes is killed.
func (r *reaper) follow(ctx context.Context, folder string) {
	runs := map[string]added{}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		described, err := readAdded(folder)
		if err != nil {
			log.Printf("added daemons: %v", err)
		}
		for file, was := range runs {
			if text, there := described[file]; err == nil && (!there || text != was.text) {
				was.stop()
				delete(runs, file)
			}
		}
		for file, text := range described {
			if _, there := runs[file]; !there {
				runs[file] = r.add(ctx, file, text)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// added is a daemon that a file describes.
type added struct {
	text string
	stop func() // returns when it has ended
}

func (r *reaper) add(ctx context.Context, file, text string) added {
	var d Daemon
	if err := json.Unmarshal([]byte(text), &d); err != nil || len(d.Argv) == 0 {
		log.Printf("%s describes no daemon: %v", file, err)
		return added{text: text, stop: func() {}}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.keep(ctx, d)
	}()
	return added{text: text, stop: func() {
		cancel()
		<-ended
	}}
}

// readAdded reads every file of the folder that describes a daemon.
func readAdded(folder string) (map[string]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	texts := map[string]string{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), addedSuffix) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		texts[e.Name()] = string(b)
	}
	return texts, nil
}

// SaveAdded describes the daemon in the folder, whole or not at all.
func (d Daemon) SaveAdded(folder string) error {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	file := AddedFile(folder, d.Name)
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		return fmt.Errorf("describe daemon %s: %w", d.Name, err)
	}
	return os.Rename(file+".new", file)
}
