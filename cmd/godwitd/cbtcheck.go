package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/godwit-io/godwit/snapshot/cbt"
)

// cbtCheckCommand is what pods of `godwitctl volume cbt-check` run.
func cbtCheckCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "cbt-check", Short: "Parts of godwitctl volume cbt-check that run in the cluster", Hidden: true, Args: cobra.NoArgs,
	}
	var device, writes string
	write := &cobra.Command{
		Use: "write", Short: "Write to a scratch volume", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return scribble(device, writes) },
	}
	write.Flags().StringVar(&device, "device", "", "the scratch volume; what it holds is lost")
	write.Flags().StringVar(&writes, "writes", "", "what to write, as JSON")
	var o askOptions
	ask := &cobra.Command{
		Use: "ask", Short: "Ask a storage about snapshots, and print its answers as JSON", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			answers, err := o.ask(cmd.Context())
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(answers)
		},
	}
	f := ask.Flags()
	f.StringVar(&o.questions, "questions", "", "what to ask, as JSON")
	f.StringVar(&o.namespace, "namespace", "", "where the VolumeSnapshots are")
	f.StringVar(&o.address, "address", "", "where the sidecar is")
	f.StringVar(&o.ca, "ca", "", "the authority of its certificate, PEM in base64")
	f.StringVar(&o.tokenFile, "token-file", "", "a file with a token for it")
	f.StringArrayVar(&o.snapshots, "snapshot", nil, "a VolumeSnapshot, in order")
	f.StringArrayVar(&o.handles, "handle", nil, "its handle, in the same order")
	root.AddCommand(write, ask)
	return root
}

func scribble(device, text string) (err error) {
	var writes []cbt.Write
	if err := json.Unmarshal([]byte(text), &writes); err != nil {
		return fmt.Errorf("--writes: %w", err)
	}
	// It must be there: a file that is made here is no volume.
	f, err := os.OpenFile(device, os.O_WRONLY, 0) //nolint:gosec // the volume of its own pod
	if err != nil {
		return fmt.Errorf("open the scratch volume: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := cbt.Scribble(f, writes); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync the scratch volume: %w", err)
	}
	return nil
}

type askOptions struct {
	questions, namespace, address, ca, tokenFile string
	snapshots, handles                           []string
}

func (o askOptions) ask(ctx context.Context) ([]cbt.Answer, error) {
	var questions []cbt.Question
	if err := json.Unmarshal([]byte(o.questions), &questions); err != nil {
		return nil, fmt.Errorf("--questions: %w", err)
	}
	ca, err := base64.StdEncoding.DecodeString(o.ca)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	if len(o.snapshots) != len(o.handles) {
		return nil, fmt.Errorf("%d snapshots and %d handles: give one --handle for each --snapshot", len(o.snapshots), len(o.handles))
	}
	return cbt.Answers(ctx, questions, o.handles, func(i int) (*cbt.Client, error) {
		return cbt.Sidecar(cbt.Service{Address: o.address, CA: ca}, tokenFile(o.tokenFile), cbt.Target{Namespace: o.namespace, Name: o.snapshots[i]})
	})
}

// tokenFile gives the token that kubelet keeps fresh in a file.
type tokenFile string

func (f tokenFile) Token(context.Context, string) (cbt.Token, error) {
	b, err := os.ReadFile(string(f))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return cbt.Token(strings.TrimSpace(string(b))), nil
}
