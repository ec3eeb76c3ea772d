package cli

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	"github.com/godwit-io/godwit/snapshot"
)

func newVolumeList(s *session, shared *volumeFlags) *cobra.Command {
	volume := ""
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the images in a repository, oldest first",
		Args:  noNames,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.onRepository(cmd.Context(), shared, false, func(ctx context.Context, r *volumeRun) error {
				images, err := r.images(ctx, volume)
				if err != nil {
					return err
				}
				return r.listImages(images)
			})
		},
	}
	cmd.Flags().StringVar(&volume, "volume", "", "List the images of this volume only, [CLUSTER/]NAMESPACE/NAME")
	return cmd
}

func (r *volumeRun) listImages(images []snapshot.Image) error {
	if r.flags.json {
		if images == nil {
			images = []snapshot.Image{}
		}
		return r.outJSON(images)
	}
	if len(images) == 0 {
		return r.out("No images found.")
	}
	table := tabwriter.NewWriter(r.env.Streams.Out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "IMAGE\tVOLUME\tTAKEN\tKIND\tMETHOD\tSIZE\tROUND")
	for _, i := range images {
		round := i.Round
		if round == "" {
			round = "<none>"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			i.ID, i.Volume, i.Taken.UTC().Format(time.RFC3339), i.Kind, i.Method, quantity.Bytes(i.Size), round)
	}
	return table.Flush()
}
