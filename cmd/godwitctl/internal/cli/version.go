package cli

import (
	"context"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func newVersion(s *session) *cobra.Command {
	clientOnly := false
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program and of the cluster's Godwit",
		Args:  noNames,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := s.out("Client: %s (%s %s/%s)", s.env.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			if err != nil || clientOnly {
				return err
			}
			return s.serverVersion(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "Ask no cluster")
	return cmd
}

func (s *session) serverVersion(ctx context.Context) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	info, err := s.clusterInfo(ctx, c)
	if err != nil {
		return err
	}
	version := info.version
	if version == "" {
		version = "unknown"
	}
	line := fmt.Sprintf("Server: %s, cluster %s (%s)", version, info.name, info.id)
	if info.endpoint != "" {
		line += ", reached at " + info.endpoint
	}
	return s.out("%s", line)
}
