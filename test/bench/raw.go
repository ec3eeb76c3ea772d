package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"github.com/godwit-io/godwit/snapshot/blockdev"
)

// raw moves the bytes that Godwit stored, and does nothing else with them: what
// this machine and its object store can do at all. Hashing a volume is one of
// its operations too. Each run is a process of its own, as those of all peers.
type raw struct {
	self    string
	gateway *gateway
	image   *image
	round   int
	// held is the file that Godwit restored, which verify reads.
	held func() string
}

func (r *raw) name() string { return rawName }

func (r *raw) restored() string { return "" }

func (r *raw) prepare(_ context.Context, round int) error {
	r.round = round
	return nil
}

func (r *raw) run(ctx context.Context, op operation) (measure, error) {
	args := []string{r.self}
	switch op {
	case fullUpload:
		args = append(args, helperPut, r.gateway.endpoint, filepath.Join(r.gateway.root, bucket, fmt.Sprintf("godwit-%d", r.round)), fmt.Sprintf("raw-%d/", r.round))
	case restore:
		args = append(args, helperGet, r.gateway.endpoint, fmt.Sprintf("raw-%d/", r.round))
	case verify, reconcile:
		args = append(args, helperHash, r.held())
	default:
		return measure{}, errNotServed
	}
	return process{args: args}.run(ctx)
}

const (
	helperPut  = "raw-put"
	helperGet  = "raw-get"
	helperHash = "raw-hash"
	// rawWorkers move objects at once, as many as Godwit.
	rawWorkers = 4
	hashChunk  = 128 * kib
	readAtOnce = mib
)

// helpers are what the bench runs itself as.
func helpers() map[string]func(context.Context, []string) error {
	return map[string]func(context.Context, []string) error{helperPut: rawPut, helperGet: rawGet, helperHash: rawHash}
}

func rawClient(endpoint string) (*minio.Client, error) {
	return minio.New(endpoint, &minio.Options{Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: region})
}

// rawPut uploads the files of a folder.
func rawPut(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("raw-put ENDPOINT FOLDER PREFIX")
	}
	client, err := rawClient(args[0])
	if err != nil {
		return err
	}
	files, err := os.ReadDir(args[1])
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(rawWorkers)
	for _, file := range files {
		group.Go(func() error {
			content, err := os.ReadFile(filepath.Join(args[1], file.Name()))
			if err != nil {
				return err
			}
			_, err = client.PutObject(ctx, bucket, args[2]+file.Name(), bytes.NewReader(content), int64(len(content)),
				minio.PutObjectOptions{DisableMultipart: true, DisableContentSha256: true})
			return err
		})
	}
	return group.Wait()
}

// rawGet downloads all that is under a prefix.
func rawGet(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("raw-get ENDPOINT PREFIX")
	}
	client, err := rawClient(args[0])
	if err != nil {
		return err
	}
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(rawWorkers)
	for object := range client.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: args[1]}) {
		if object.Err != nil {
			return errors.Join(object.Err, group.Wait())
		}
		group.Go(func() error {
			content, err := client.GetObject(running, bucket, object.Key, minio.GetObjectOptions{})
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, content)
			return errors.Join(err, content.Close())
		})
	}
	return group.Wait()
}

// rawHash reads what is allocated of a file and hashes it in chunks, on all cores.
func rawHash(ctx context.Context, args []string) (err error) {
	if len(args) != 1 {
		return errors.New("raw-hash FILE")
	}
	source, err := blockdev.OpenSource(args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	extents, err := source.Allocated()
	if err != nil {
		return err
	}
	group, _ := errgroup.WithContext(ctx)
	jobs := make(chan piece)
	for range runtime.NumCPU() {
		group.Go(func() error {
			buf := make([]byte, readAtOnce)
			var failed error
			for job := range jobs {
				if _, err := source.ReadAt(buf[:job.length], job.offset); err != nil {
					failed = err
				}
				for at := int64(0); at < job.length; at += hashChunk {
					_ = blake3.Sum256(buf[at:min(at+hashChunk, job.length)])
				}
			}
			return failed
		})
	}
	for _, e := range extents {
		for at := e.Offset; at < e.End(); at += readAtOnce {
			jobs <- piece{at, min(readAtOnce, e.End()-at)}
		}
	}
	close(jobs)
	return group.Wait()
}
