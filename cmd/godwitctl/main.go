// Command godwitctl makes pairs, starts Migrations and shows them. Installed as
// kubectl-godwit it is also the plugin `kubectl godwit`.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // the machine may have no zones, and policies name some

	"github.com/go-logr/logr"
	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/cli"
	"github.com/godwit-io/godwit/cmd/godwitctl/internal/progress"
)

// version is set by the build.
var version = "unknown"

func main() { os.Exit(run()) }

func run() int {
	// What goes wrong is told in one line, by this program and not by its libraries.
	klog.SetLogger(logr.Discard())
	klog.SetOutput(io.Discard)
	log.SetLogger(logr.Discard())

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The second Ctrl-C ends the program at once.
	context.AfterFunc(ctx, stop)

	return cli.Run(ctx, cli.Environment{
		Streams:  genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr},
		Version:  version,
		Terminal: terminal,
		Getenv:   os.Getenv,
	}, os.Args)
}

// terminal is the size of the terminal that standard output is, if it is one.
func terminal() (progress.Size, bool) {
	fd := int(os.Stdout.Fd())
	if !term.IsTerminal(fd) {
		return progress.Size{}, false
	}
	width, height, err := term.GetSize(fd)
	if err != nil {
		return progress.Size{Width: 80, Height: 24}, true
	}
	return progress.Size{Width: width, Height: height}, true
}
