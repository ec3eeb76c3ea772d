package main

import (
	"encoding/json"

	"github.com/godwit-io/godwit/test/sandbox/internal/cluster"
	"github.com/godwit-io/godwit/test/sandbox/internal/node"
	"github.com/godwit-io/godwit/test/sandbox/internal/sandbox"
	"github.com/spf13/cobra"
)

func ableCommand() *cobra.Command {
	return &cobra.Command{
		Use: "able", Short: "Fail, and say why, where nodes with containers cannot run", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return node.Able(cmd.Context()) },
	}
}

func besideCommand(box *sandbox.Sandbox) *cobra.Command {
	return &cobra.Command{
		Use: "beside NAME", Short: "Print, as JSON, what programs beside a --control-plane cluster need: folders and free ports", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := box.Cluster(args[0])
			if err != nil {
				return err
			}
			b, err := c.Beside()
			if err != nil {
				return err
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "  ")
			return enc.Encode(b)
		},
	}
}

func daemonCommand(box *sandbox.Sandbox) *cobra.Command {
	cmd := &cobra.Command{Use: "daemon", Short: "Run programs beside a --control-plane cluster, in the place of pods"}
	var env []string
	start := &cobra.Command{
		Use:   "start NAME DAEMON [--env K=V]... [-- PROGRAM [ARGUMENT...]]",
		Short: "Keep a program running as long as the cluster is up, or start one that was stopped again", Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := box.Cluster(args[0])
			if err != nil {
				return err
			}
			return c.StartDaemon(args[1], args[2:], env)
		},
	}
	start.Flags().StringArrayVar(&env, "env", nil, "K=V, a variable of the program")
	on := func(use, short string, do func(*cobra.Command, cluster.Cluster, string) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " NAME DAEMON", Short: short, Args: cobra.ExactArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error {
				c, err := box.Cluster(args[0])
				if err != nil {
					return err
				}
				return do(cmd, c, args[1])
			},
		}
	}
	cmd.AddCommand(start,
		on("stop", "End a program until it is started again", func(cmd *cobra.Command, c cluster.Cluster, name string) error {
			return c.StopDaemon(cmd.Context(), name)
		}),
		on("kill", "Kill a program's process, which is started again", func(cmd *cobra.Command, c cluster.Cluster, name string) error {
			return c.KillDaemon(cmd.Context(), name)
		}))
	return cmd
}
