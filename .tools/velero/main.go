// Command velero-uploader runs Velero's block uploader, as Velero's node agent
// does, on one device and one kopia repository, so that test/bench can measure
// it. It is a module of its own, since Velero replaces kopia with a fork.
//
//	velero-uploader KOPIA-CONFIG DEVICE VOLUME
//
// The repository's password is taken from KOPIA_PASSWORD.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kopia/kopia/repo"
	_ "github.com/kopia/kopia/repo/blob/s3" // the storage that the configuration names
	"github.com/kopia/kopia/snapshot/upload"
	"github.com/sirupsen/logrus"
	"github.com/vmware-tanzu/velero/pkg/uploader"
	"github.com/vmware-tanzu/velero/pkg/uploader/kopia"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "velero-uploader KOPIA-CONFIG DEVICE VOLUME")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "velero-uploader:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, config, device, volume string) error {
	repository, err := repo.Open(ctx, config, os.Getenv("KOPIA_PASSWORD"), &repo.Options{})
	if err != nil {
		return fmt.Errorf("open the repository: %w", err)
	}
	defer func() { _ = repository.Close(ctx) }()
	ctx, writer, err := repository.NewWriter(ctx, repo.WriteSessionOptions{Purpose: "velero-uploader"})
	if err != nil {
		return fmt.Errorf("write to the repository: %w", err)
	}
	log := logrus.New()
	log.SetLevel(logrus.WarnLevel)
	info, _, err := kopia.Backup(ctx, upload.NewUploader(writer), writer, device, volume, false, "",
		uploader.PersistentVolumeBlock, map[string]string{}, map[string]string{}, log)
	if err == nil {
		err = writer.Flush(ctx)
	}
	if err := errors.Join(err, writer.Close(ctx)); err != nil {
		return fmt.Errorf("back up %s: %w", device, err)
	}
	fmt.Println(info.ID)
	return nil
}
