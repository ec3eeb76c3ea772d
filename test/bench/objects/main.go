package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// settings are what the flags say.
type settings struct {
	namespaces int
	docs       string
	note       string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench-objects:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == helperMove {
		return move(ctx, args[1:])
	}
	var s settings
	flags := flag.NewFlagSet("bench-objects", flag.ContinueOnError)
	flags.IntVar(&s.namespaces, "namespaces", 50, "how many namespaces, of 200 objects each")
	flags.StringVar(&s.docs, "docs", "", "folder whose performance.md gets the result")
	flags.StringVar(&s.note, "note", "", "what a reader of the result should know, such as that the machine was busy")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if s.namespaces < 1 {
		return fmt.Errorf("-namespaces %d: at least 1", s.namespaces)
	}
	r, err := measureAll(ctx, s)
	if err != nil {
		return err
	}
	fmt.Print("\n" + r.goalTable() + "\n" + r.runTable())
	if s.docs == "" {
		return nil
	}
	return r.write(filepath.Join(s.docs, "performance.md"), time.Now())
}

// measureAll runs both programs twice, in turn.
func measureAll(ctx context.Context, s settings) (result, error) {
	r := result{Objects: s.namespaces * objectsOfNamespace, Namespaces: s.namespaces, Note: s.note}
	server, err := startServer()
	if err != nil {
		return r, err
	}
	defer func() {
		if err := server.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "bench-objects:", err)
		}
	}()
	if err := server.seed(ctx, s.namespaces); err != nil {
		return r, err
	}
	manifest, err := server.manifest(s.namespaces)
	if err != nil {
		return r, err
	}
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	if r.Load, err = loadAverage(); err != nil {
		return r, err
	}
	for round := range 2 {
		for _, p := range []struct {
			name string
			args []string
		}{
			{godwitName, []string{self, helperMove, server.kubeconfig, fmt.Sprint(s.namespaces), fmt.Sprint(round)}},
			{kubectlName, []string{server.kubectl, "--kubeconfig", server.kubeconfig, "apply", "--server-side", "-f", manifest}},
		} {
			m, err := server.measure(ctx, p.args)
			if err != nil {
				return r, err
			}
			m.Program, m.Round = p.name, round+1
			fmt.Fprintf(os.Stderr, "run %d  %-8s %7.2f s  %7.2f s CPU  %4d MiB  %6d writes  %s\n", m.Round, m.Program, m.Wall, m.CPU, m.Memory>>20, m.Writes, m.Said)
			r.Runs = append(r.Runs, m)
		}
	}
	return r, nil
}
