package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/progress"
	"github.com/godwit-io/godwit/snapshot"
	"github.com/godwit-io/godwit/snapshot/kopiastore"
)

func newVolume(s *session) *cobra.Command {
	f := &volumeFlags{}
	volume := &cobra.Command{
		Use:   "volume",
		Short: "Back up, restore and compare single volumes, with no cluster",
		Long: `Back up, restore and compare single volumes, with no cluster.

A repository is named by --repo: ` + repoForms + `.
Secrets are taken from the environment, never from the command line:

  KOPIA_PASSWORD (or --password-file)        the password of the repository
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY   the keys of an S3 bucket
  AWS_ENDPOINT_URL (or --endpoint), AWS_REGION (or --region) and
  AWS_CA_BUNDLE (or --ca-file)               where that bucket is
  GOOGLE_APPLICATION_CREDENTIALS             the file with a service account's key
  AZURE_STORAGE_ACCOUNT, AZURE_STORAGE_KEY   the account of Azure's container, or
  AZURE_TENANT_ID, AZURE_CLIENT_ID and
  AZURE_CLIENT_SECRET                        an application in place of its key

A volume is named CLUSTER/NAMESPACE/NAME, as ` + s.program + ` volume list shows it.`,
		Args: cobra.ArbitraryArgs,
		RunE: group("what to do", "backup, restore, apply, verify, list, diff or prune"),
	}
	f.add(volume.PersistentFlags())
	volume.AddCommand(newVolumeBackup(s, f), newVolumeRestore(s, f), newVolumeApply(s, f), newVolumeVerify(s, f),
		newVolumeList(s, f), newVolumeDiff(s, f), newVolumePrune(s, f), newVolumeCBTCheck(s))
	return volume
}

// volumeRun is one command on an open repository.
type volumeRun struct {
	*session
	flags *volumeFlags
	repo  snapshot.Repository
	begun time.Time
	// limiter and budget bound all that the command does with a device or a file.
	limiter *snapshot.Limiter
	budget  *snapshot.Budget
	// traffic bounds what goes to and from the repository; nothing until forFolder.
	traffic *snapshot.Limiter
}

// onRepository opens the repository, does the work, and closes it.
func (s *session) onRepository(ctx context.Context, f *volumeFlags, create bool, do func(context.Context, *volumeRun) error) (err error) {
	location, err := s.location(f)
	if err != nil {
		return err
	}
	if create && len(location.Password.Reveal()) < shortestPassword {
		return fmt.Errorf("--create makes the repository's keys from its password, so that must be random and have at least %d characters", shortestPassword)
	}
	limiter, budget, err := f.bounds()
	if err != nil {
		return err
	}
	// What was released is collected before it doubles what the budget allows.
	debug.SetMemoryLimit(budget.Size() + ownMemory)
	debug.SetGCPercent(gcPercent)
	stop, err := profile(f.cpuProfile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	begun := time.Now()
	traffic, err := snapshot.NewLimiter(snapshot.Limits{})
	if err != nil {
		return err
	}
	repo, err := kopiastore.New(kopiastore.WithBudget(budget), kopiastore.WithLimiter(traffic)).Open(ctx, location, create)
	if err != nil {
		return err
	}
	// What was begun must be cleaned up after Ctrl-C too.
	defer func() { err = errors.Join(err, repo.Close(context.WithoutCancel(ctx))) }()
	return do(ctx, &volumeRun{session: s, flags: f, repo: repo, begun: begun, limiter: limiter, budget: budget, traffic: traffic})
}

// forFolder has the flags count for a folder, which the repository reads and writes
// itself: only its traffic can be bound. Flags that are for blocks must not have been said.
func (r *volumeRun) forFolder(forBlocks map[string]bool) error {
	if r.flags.workers != 0 {
		return notForFolders("workers")
	}
	for _, flag := range slices.Sorted(maps.Keys(forBlocks)) {
		if forBlocks[flag] {
			return notForFolders(flag)
		}
	}
	if r.limiter == nil {
		return nil
	}
	return r.traffic.Set(r.limiter.Limits())
}

func notForFolders(flag string) error {
	return fmt.Errorf("--%s is for devices and files, and not for folders: leave it out", flag)
}

// profile writes a CPU profile until stop is called; without a file it does nothing.
func profile(file string) (stop func() error, err error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	out, err := os.Create(file) //nolint:gosec // the user names it
	if err != nil {
		return nil, fmt.Errorf("--cpu-profile: %w", err)
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return nil, errors.Join(fmt.Errorf("--cpu-profile: %w", err), out.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return out.Close()
	}, nil
}

// progress gives the engine someone to tell, and a function that ends the showing.
func (r *volumeRun) progress(format string, args ...any) (told snapshot.Progress, end func()) {
	if r.flags.quiet {
		return nil, func() {}
	}
	t := &progress.Transfer{Out: r.env.Streams.ErrOut, What: fmt.Sprintf(format, args...)}
	if _, ok := r.env.Terminal(); ok && !r.flags.json {
		t.Out = r.env.Streams.Out
		t.Terminal = func() progress.Size {
			size, _ := r.env.Terminal()
			return size
		}
	}
	return func(s snapshot.Stats) { t.Show(s, time.Now()) }, t.End
}

// volumeStats are snapshot.Stats as --json writes them, in bytes.
type volumeStats struct {
	Read     int64 `json:"read"`
	Changed  int64 `json:"changed"`
	Uploaded int64 `json:"uploaded"`
	Fetched  int64 `json:"fetched"`
	Written  int64 `json:"written"`
	Files    int64 `json:"files,omitempty"`
}

// volumeResult is what a transfer came to.
type volumeResult struct {
	Image  snapshot.Image `json:"image"`
	Parent string         `json:"parent,omitempty"`
	Target string         `json:"target,omitempty"`
	Stats  volumeStats    `json:"stats"`
	// Seconds is the time from opening the repository on.
	Seconds float64 `json:"seconds"`
}

func (r *volumeRun) result(image snapshot.Image, n snapshot.Stats) volumeResult {
	return volumeResult{
		Image: image, Seconds: time.Since(r.begun).Seconds(),
		Stats: volumeStats{Read: n.Read, Changed: n.Changed, Uploaded: n.Uploaded, Fetched: n.Fetched, Written: n.Written, Files: n.Files},
	}
}

// outJSON writes one value for a program to read.
func (s *session) outJSON(v any) error {
	encoder := json.NewEncoder(s.env.Streams.Out)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// volumeName reads CLUSTER/NAMESPACE/NAME, or NAMESPACE/NAME for any cluster.
func volumeName(s string) (snapshot.Volume, error) {
	parts := strings.Split(s, "/")
	if len(parts) == 2 {
		parts = append([]string{""}, parts...)
	}
	if len(parts) != 3 || parts[1] == "" || parts[2] == "" || strings.HasPrefix(s, "/") {
		return snapshot.Volume{}, fmt.Errorf("--volume %q names no volume: say NAMESPACE/NAME or CLUSTER/NAMESPACE/NAME", s)
	}
	return snapshot.Volume{Cluster: parts[0], Namespace: parts[1], Name: parts[2]}, nil
}

// images are those that --volume chooses, oldest first.
func (r *volumeRun) images(ctx context.Context, volume string) ([]snapshot.Image, error) {
	var want snapshot.Volume
	if volume != "" {
		var err error
		if want, err = volumeName(volume); err != nil {
			return nil, err
		}
	}
	if want.Cluster != "" {
		return r.repo.Images(ctx, want)
	}
	all, err := r.repo.Images(ctx, snapshot.Volume{})
	if err != nil || volume == "" {
		return all, err
	}
	var found []snapshot.Image
	for _, i := range all {
		if i.Volume.Namespace == want.Namespace && i.Volume.Name == want.Name {
			found = append(found, i)
		}
	}
	return found, nil
}

// choose gives the image that the flags name: by id, or the latest of a volume.
func (r *volumeRun) choose(ctx context.Context, flag, id, volume string) (snapshot.Image, error) {
	switch {
	case id != "":
		image, err := r.repo.Image(ctx, snapshot.ImageID(id))
		if errors.Is(err, snapshot.ErrNotFound) {
			return image, fmt.Errorf("%w: %s volume list shows what is there", err, r.program)
		}
		return image, err
	case volume == "":
		return snapshot.Image{}, fmt.Errorf("say which image: --%s ID, or --volume NAME for the latest of a volume; %s volume list shows both", flag, r.program)
	}
	images, err := r.images(ctx, volume)
	if err != nil {
		return snapshot.Image{}, err
	}
	if len(images) == 0 {
		return snapshot.Image{}, fmt.Errorf("there is no image of volume %s: %s volume list shows what is there", volume, r.program)
	}
	for _, i := range images {
		if i.Volume != images[0].Volume {
			return snapshot.Image{}, fmt.Errorf("--volume %s could be %s or %s: say which", volume, images[0].Volume, i.Volume)
		}
	}
	return images[len(images)-1], nil
}
