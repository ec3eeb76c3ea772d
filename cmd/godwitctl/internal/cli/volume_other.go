//go:build !linux

package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

func newVolume(*session) *cobra.Command {
	return &cobra.Command{
		Use:                "volume",
		Short:              "Back up, restore and compare single volumes, with no cluster",
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("volumes are read and written on Linux only: run this there")
		},
	}
}
