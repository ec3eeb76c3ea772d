// Command sandbox runs real Kubernetes clusters on this machine, with CSI storage and an S3 object
// store, for Godwit's demo and tests and for users' own trials.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/godwit-io/godwit/test/sandbox/internal/sandbox"
	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		os.Exit(1)
	}
}

// root builds the command tree; all commands share one sandbox, set by flags.
func root() *cobra.Command {
	box := &sandbox.Sandbox{Progress: os.Stderr}
	cmd := &cobra.Command{
		Use:           "sandbox",
		Short:         "Real Kubernetes clusters on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) (err error) {
			if box.Dir == "" {
				box.Dir, err = sandbox.DefaultDir()
			}
			return err
		},
	}
	cmd.PersistentFlags().StringVar(&box.Dir, "dir", "", "folder of the sandbox's state (default /var/lib/godwit-sandbox as root)")
	cmd.PersistentFlags().StringVar(&box.Source, "source", "", "folder of the sandbox's sources (default: found from the working folder)")
	cmd.AddCommand(buildCommand(box), whichCommand(box), upCommand(box), downCommand(box), statusCommand(box), kubeconfigCommand(box),
		shellCommand(box), loadCommand(box), imageCommand(box), s3Command(box), ableCommand(), besideCommand(box), daemonCommand(box),
		nodeInitCommand(), planeRunCommand())
	return cmd
}
