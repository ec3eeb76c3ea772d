package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	bucket    = "bench"
	accessKey = "benchaccess"
	secretKey = "benchsecret"
	region    = "us-east-1"
	// password of all repositories.
	password = "a password for benchmarks"
)

// gateway is the object store.
type gateway struct {
	endpoint string
	// root holds the bucket as a folder.
	root string
	log  *os.File
	cmd  *exec.Cmd
}

// startGateway runs the versitygw that GODWIT_VERSITYGW names.
func startGateway(ctx context.Context, dir string) (*gateway, error) {
	binary := os.Getenv("GODWIT_VERSITYGW")
	if binary == "" {
		return nil, errors.New("the object store is missing: set GODWIT_VERSITYGW to a versitygw, or run make bench")
	}
	endpoint, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	g := &gateway{endpoint: endpoint, root: filepath.Join(dir, "store")}
	if err := os.MkdirAll(filepath.Join(g.root, bucket), 0o750); err != nil {
		return nil, fmt.Errorf("make the bucket: %w", err)
	}
	name := filepath.Join(dir, "access.log")
	g.cmd = exec.Command(binary, "--quiet", "--port", endpoint, "--access", accessKey, "--secret", secretKey, "--access-log", name, "posix", g.root)
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the object store: %w", err)
	}
	if err := g.await(ctx); err != nil {
		return nil, errors.Join(err, g.stop())
	}
	if g.log, err = os.Open(name); err != nil {
		return nil, errors.Join(fmt.Errorf("read the object store's log: %w", err), g.stop())
	}
	return g, nil
}

func freeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func (g *gateway) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", g.endpoint)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the object store does not listen: %w", err)
		case <-tick.C:
		}
	}
}

func (g *gateway) stop() error {
	if g.log != nil {
		_ = g.log.Close()
	}
	if err := g.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("stop the object store: %w", err)
	}
	_ = g.cmd.Wait()
	return nil
}

// count adds to m what the log has told since the last call.
func (g *gateway) count(m *measure) error {
	lines := bufio.NewReader(g.log)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			// A line under way is read by the next call.
			_, err = g.log.Seek(-int64(len(line)), io.SeekCurrent)
			return err
		}
		if err != nil {
			return fmt.Errorf("read the object store's log: %w", err)
		}
		m.countLine(line)
	}
}

// countLine understands one line of an S3 access log: owner, bucket, time in
// brackets, address, requester, id, operation, key, URI, status, error, bytes
// sent, object size, and more.
func (m *measure) countLine(line string) {
	_, rest, found := strings.Cut(line, "] ")
	f := strings.Fields(rest)
	if !found || len(f) < 10 || !strings.HasPrefix(f[3], "s3_") {
		return
	}
	m.Requests++
	name := path.Base(f[4])
	switch f[3] {
	case "s3_GetObject":
		if data(name) {
			m.DataReads++
		}
	case "s3_PutObject", "s3_UploadPart":
		size, err := strconv.ParseInt(f[9], 10, 64)
		if err != nil {
			return
		}
		m.Sent += size
		if !data(name) {
			m.IndexSent += size
		}
	}
}

// data tells kopia's packs of chunks from its indexes and packs of metadata.
func data(name string) bool { return strings.HasPrefix(name, "p") }
