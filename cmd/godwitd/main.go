// Command godwitd is Godwit's daemon: "controller" runs the reconcilers, the
// pairing service and the target agent of a cluster, "node" runs the transfers
// of one node, and "hold" keeps a volume published on a node until it is ended.
//
// It wires packages together and decides nothing.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // the image has no zones of its own, and policies name some

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"
)

// version is set by the linker.
var version = "dev" //nolint:gochecknoglobals // the linker can set nothing else

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "godwitd:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "godwitd", Short: "Moves stateful applications between Kubernetes clusters",
		Version: version, SilenceUsage: true, SilenceErrors: true,
		PersistentPreRun: func(*cobra.Command, []string) {
			ctrl.SetLogger(logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, nil)))
		},
	}
	root.AddCommand(controllerCommand(), nodeCommand(), holdCommand(), cbtCheckCommand())
	return root
}

func holdCommand() *cobra.Command {
	return &cobra.Command{
		Use: "hold", Short: "Do nothing until ended, so that kubelet keeps a volume published", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			<-cmd.Context().Done()
			return nil
		},
	}
}
