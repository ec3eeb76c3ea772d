package kopiastore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/blockdev"
	"github.com/godwit-io/godwit/snapshot/snapshottest"
)

// childVariable has this test binary back a file up instead of testing.
const childVariable = "GODWIT_TEST_KILLED_BACKUP"

// childRequest is what the child is told, in JSON.
type childRequest struct {
	Location snapshot.Location
	Password string
	File     string
	Rate     int64
	Lose     int64
}

// tellingSource says how much was read before it gives it.
type tellingSource struct {
	snapshot.Source
	read atomic.Int64
}

func (s *tellingSource) ReadAt(p []byte, offset int64) (int, error) {
	_, _ = fmt.Println("read", s.read.Add(int64(len(p))))
	return s.Source.ReadAt(p, offset)
}

func TestMain(m *testing.M) {
	if request := os.Getenv(childVariable); request != "" {
		if err := child([]byte(request)); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(request []byte) (err error) {
	var r childRequest
	if err := json.Unmarshal(request, &r); err != nil {
		return err
	}
	r.Location.Password = snapshot.Secret(r.Password)
	ctx := context.Background()
	file, err := blockdev.OpenSource(r.File)
	if err != nil {
		return err
	}
	repository, err := New().Open(ctx, r.Location, true)
	if err != nil {
		return err
	}
	limiter, err := snapshot.NewLimiter(snapshot.Limits{Rate: snapshot.Rate{Bytes: r.Rate}})
	if err != nil {
		return err
	}
	image, _, err := snapshot.Backup(ctx, snapshot.BackupRequest{
		Source:  &tellingSource{Source: file},
		Image:   snapshot.Image{Volume: snapshot.Volume{Cluster: "c1", Namespace: "ns", Name: "v"}, Round: "r1", Method: snapshot.MethodScan},
		Moment:  "the snapshot",
		Limiter: limiter, CheckpointEvery: snapshot.CheckpointEvery{Bytes: r.Lose},
	}, repository)
	if err != nil {
		return err
	}
	_, _ = fmt.Println("image", image.ID)
	return repository.Close(ctx)
}

// run starts the child, kills it when it has read so much, and returns what it
// read and, if it lived, the image.
func (r childRequest) run(t *testing.T, kill int64) (read int64, image snapshot.ImageID) {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childVariable+"="+string(data))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		what, value, _ := strings.Cut(lines.Text(), " ")
		switch what {
		case "read":
			var n int64
			if _, err := fmt.Sscan(value, &n); err != nil {
				t.Error(err)
			}
			if read = max(read, n); kill > 0 && read >= kill {
				_ = cmd.Process.Kill()
			}
		case "image":
			image = snapshot.ImageID(value)
		}
	}
	if err := cmd.Wait(); err != nil && kill == 0 {
		t.Fatal(err)
	}
	return read, image
}

// sent sums the packs of chunks.
func sent(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		if err != nil || d.IsDir() || !strings.HasPrefix(rel, "p") || !strings.HasSuffix(rel, ".f") {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestKilledProcess kills a process at random points, several times in a row,
// and counts what is read and stored again by the one that comes through.
func TestKilledProcess(t *testing.T) {
	const size, lose = 256 << 20, 96 << 20
	rnd := rand.New(rand.NewPCG(1, 99))
	l := folder(t)
	r := childRequest{Location: l, Password: l.Password.Reveal(), File: filepath.Join(t.TempDir(), "volume"), Rate: 256 << 20, Lose: lose}
	data := noise(size+5<<10, 3)
	clear(data[20<<20 : 30<<20])
	if err := os.WriteFile(r.File, data, 0o600); err != nil {
		t.Fatal(err)
	}
	const kills = 4
	var read int64
	for i := range kills {
		n, image := r.run(t, 30<<20+rnd.Int64N(70<<20))
		if image != "" {
			t.Fatalf("run %d was not killed", i)
		}
		read += n
		t.Logf("run %d was killed when it had read %d MiB; %d MiB are stored", i, n>>20, sent(t, l.Path)>>20)
	}
	n, id := r.run(t, 0)
	read += n
	// Each of four workers may have read 1 MiB that no checkpoint had yet seen.
	const each = lose + 4<<20
	if again := read - int64(len(data)); again > kills*each {
		t.Errorf("%d MiB were read again after %d kills", again>>20, kills)
	} else {
		t.Logf("%d MiB were read again after %d kills", again>>20, kills)
	}
	// Nothing is stored twice but what reached the store in a pack that was cut off.
	if stored := sent(t, l.Path); stored > int64(len(data))-9<<20 {
		t.Errorf("%d MiB are stored of %d", stored>>20, len(data)>>20)
	} else {
		t.Logf("%d MiB are stored of %d", stored>>20, len(data)>>20)
	}
	repository := open(t, New(), l)
	sink := snapshottest.NewDevice(make([]byte, len(data)))
	if _, err := snapshot.Apply(t.Context(), snapshot.ApplyRequest{Sink: sink, To: id}, repository); err != nil || !bytes.Equal(sink.Bytes(), data) {
		t.Errorf("the image of a run that was killed holds other bytes (%v)", err)
	}
	if left, err := repository.checkpoints(t.Context(), nil); err != nil || len(left) > 0 {
		t.Errorf("%d checkpoints are left (%v)", len(left), err)
	}
}

// TestDeadCheckpoints shows that a checkpoint nobody took up is never an
// image, and goes with the next one of its volume, a day later.
func TestDeadCheckpoints(t *testing.T) {
	l := folder(t)
	data := noise(8<<20, 4)
	o := New()
	killed := func(r *snapshot.BackupRequest) {
		r.Moment, r.Workers, r.CheckpointEvery.Bytes = "one", 1, 2<<20
		r.Source = &dyingSource{Source: r.Source, left: 6}
	}
	repository := open(t, o, l)
	if _, _, err := backup(t, repository, data, killed); err == nil {
		t.Fatal("it lived")
	}
	dead, err := repository.checkpoints(t.Context(), nil)
	if err != nil || len(dead) != 1 {
		t.Fatalf("%d checkpoints (%v)", len(dead), err)
	}
	id := snapshot.ImageID(dead[0].ID)
	if _, err := repository.Image(t.Context(), id); err == nil {
		t.Error("a checkpoint was taken for an image")
	}
	if _, _, err := backup(t, repository, data, func(r *snapshot.BackupRequest) { r.Parent = id }); err == nil {
		t.Error("a checkpoint was taken as a parent")
	}
	if err := repository.Forget(t.Context(), id); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		late time.Duration
		left int
	}{{0, 1}, {25 * time.Hour, 0}} {
		repository.now = func() time.Time { return time.Now().Add(c.late) }
		if _, _, err := backup(t, repository, data, func(r *snapshot.BackupRequest) { r.Moment = "two" }); err != nil {
			t.Fatal(err)
		}
		if err := repository.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left, err := repository.checkpoints(t.Context(), nil); err != nil || len(left) != c.left {
			t.Errorf("%s later %d checkpoints are left, want %d (%v)", c.late, len(left), c.left, err)
		}
	}
}

// dyingSource fails after so many reads.
type dyingSource struct {
	snapshot.Source
	left int64
}

func (s *dyingSource) ReadAt(p []byte, offset int64) (int, error) {
	if s.left--; s.left < 0 {
		return 0, snapshottest.ErrInjected
	}
	return s.Source.ReadAt(p, offset)
}
