package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/cbtcheck"
	"github.com/godwit-io/godwit/snapshot/cbt"
)

// cleaning is how long the removal of a check's things may take.
const cleaning = 2 * time.Minute

type cbtCheckFlags struct {
	class, snapshotClass, image, size string
	seed                              uint64
	timeout                           time.Duration
	json                              bool
}

func newVolumeCBTCheck(s *session) *cobra.Command {
	f := &cbtCheckFlags{}
	cmd := &cobra.Command{
		Use:   "cbt-check --storage-class CLASS",
		Short: "Prove on a scratch volume what a cluster's storage says of changed blocks",
		Long: `Prove on a scratch volume what a cluster's storage says of changed blocks.

It makes a namespace with a volume of the class, writes known blocks to it, takes
snapshots in between, asks the storage what changed, and compares. Pods with
Godwit's image write and ask. All of it is removed in the end.

It ends with an error where the storage leaves out a block that changed, breaks
the specification, or does not answer.`,
		Args: noNames,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.cbtCheck(cmd.Context(), *f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.class, "storage-class", "", "StorageClass to check")
	flags.StringVar(&f.snapshotClass, "snapshot-class", "", "VolumeSnapshotClass to use; the driver's default where it is not given")
	flags.StringVar(&f.size, "size", "1Gi", "Size of the scratch volume")
	flags.StringVar(&f.image, "image", "", "Image with godwitd; that of Godwit's nodes where it is not given")
	flags.Uint64Var(&f.seed, "seed", 0, "Repeat the check that printed this seed")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Minute, "How long the check may take")
	flags.BoolVar(&f.json, "json", false, "Print the findings as JSON")
	return cmd
}

func (s *session) cbtCheck(ctx context.Context, f cbtCheckFlags) (err error) {
	if f.class == "" {
		return errors.New("--storage-class is missing: say which storage to check")
	}
	size, err := resource.ParseQuantity(f.size)
	if err != nil {
		return fmt.Errorf("--size %s: %w", f.size, err)
	}
	if f.seed == 0 {
		f.seed = rand.Uint64() //nolint:gosec // only what is written follows from it
	}
	config, err := s.config.ToRESTConfig()
	if err != nil {
		return configError(err)
	}
	limited, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	bench, err := cbtcheck.Open(limited, config, cbtcheck.Options{
		StorageClass: f.class, SnapshotClass: f.snapshotClass, Size: size, Image: f.image, Home: s.home,
		Told: func(format string, args ...any) { _ = s.hint(format, args...) },
	})
	// Also after Ctrl-C: nothing of a check stays.
	defer func() {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleaning)
		defer cancel()
		err = errors.Join(err, bench.Close(cleanup))
	}()
	if err != nil {
		return err
	}
	report, err := cbt.Check(limited, bench, f.seed)
	if err != nil {
		return fmt.Errorf("check driver %s: %w", bench.Driver(), err)
	}
	return s.tellReport(f, bench.Driver(), report)
}

func (s *session) tellReport(f cbtCheckFlags, driver string, r cbt.Report) error {
	if f.json {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the findings: %w", err)
		}
		if err := s.out("%s", text); err != nil {
			return err
		}
	} else if err := s.tellFindings(r.Findings); err != nil {
		return err
	}
	if !r.Sound() {
		return fmt.Errorf("what driver %s says of changed blocks is not to be relied on (seed %d repeats this check): tell its vendor, "+
			"and keep Godwit from asking with node.changedBlocks=false in the chart's values", driver, r.Seed)
	}
	if f.json {
		return nil
	}
	return s.out("Driver %s told every block that changed (seed %d).", driver, r.Seed)
}

func (s *session) tellFindings(findings []cbt.Finding) error {
	for _, finding := range findings {
		mark := "ok   "
		if finding.Fault {
			mark = "FAULT"
		}
		if err := s.out("%s  %s", mark, finding.Text); err != nil {
			return err
		}
	}
	return nil
}
