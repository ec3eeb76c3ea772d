// Package cli owns godwitctl's commands: their flags, their words to the user,
// and the one line that every failure ends with.
//
// Its words are storkctl's where storkctl has them: verbs, nouns, flags, tables
// and messages. A session is one run of the program against one cluster. The
// package never decides what happens to data: it writes custom resources and
// shows them, and the controller does the rest.
package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/progress"
)

// Exit codes.
const (
	exitFailure = 1
	// exitInterrupted is what a shell gives to what Ctrl-C ended.
	exitInterrupted = 130
)

// Environment is what the program gets from outside.
type Environment struct {
	Streams genericiooptions.IOStreams
	Version string
	// Terminal is the size of the terminal that Streams.Out is, if it is one.
	Terminal func() (progress.Size, bool)
	Getenv   func(string) string
}

// Run runs the command line args, whose first is the program's name, and
// returns the exit code.
func Run(ctx context.Context, env Environment, args []string) int {
	cmd := newRoot(&session{env: env, config: configFlags()}, args[0])
	cmd.SetArgs(args[1:])
	err := cmd.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errInterrupted):
		// What there is to say was said where the waiting ended.
		return exitInterrupted
	case ctx.Err() != nil:
		_, _ = fmt.Fprintln(env.Streams.ErrOut, "interrupted")
		return exitInterrupted
	default:
		_, _ = fmt.Fprintln(env.Streams.ErrOut, "error: "+oneLine(err.Error()))
		return exitFailure
	}
}

// errInterrupted says that the user ended a wait.
var errInterrupted = errors.New("interrupted")

// oneLine joins the lines of a message that a library wrote.
func oneLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, " ")
}

// configFlags are the flags that choose the cluster; kubectl's others are left out.
func configFlags() *genericclioptions.ConfigFlags {
	kubeconfig, kubecontext, namespace := "", "", ""
	return &genericclioptions.ConfigFlags{
		KubeConfig: &kubeconfig, Context: &kubecontext, Namespace: &namespace,
	}
}

// What a command does with the flags that all commands share.
const (
	usesOutput        = "output"
	usesWatch         = "watch"
	usesAllNamespaces = "all-namespaces"
)

func newRoot(s *session, program string) *cobra.Command {
	name := filepath.Base(program)
	display := name
	if plugin, ok := strings.CutPrefix(name, "kubectl-"); ok {
		display = "kubectl " + plugin
	}
	s.program = display
	root := &cobra.Command{
		Use:   name,
		Short: "Move applications with their volumes between Kubernetes clusters",
		Long: `Move applications with their volumes between Kubernetes clusters.

On the target cluster, make a pair and carry it to the source:
  ` + display + ` --context TARGET generate clusterpair -n cms prodcluster | kubectl --context SOURCE apply -f -
On the source cluster, move the application:
  ` + display + ` --context SOURCE create migration cmsmigration -n cms --namespaces cms -c prodcluster --wait`,
		Annotations:        map[string]string{cobra.CommandDisplayNameAnnotation: display},
		SilenceUsage:       true,
		SilenceErrors:      true,
		DisableSuggestions: true,
		Args:               cobra.ArbitraryArgs,
		RunE:               group("a command", "get, create, plan, generate, delete, cancel, rollback, limit, perform, activate, deactivate, drill, suspend, resume, logs, must-gather, volume or version"),
		PersistentPreRunE:  func(cmd *cobra.Command, _ []string) error { return s.checkShared(cmd) },
	}
	root.SetIn(s.env.Streams.In)
	root.SetOut(s.env.Streams.Out)
	root.SetErr(s.env.Streams.ErrOut)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: see %s --help", err, cmd.CommandPath())
	})
	root.CompletionOptions.HiddenDefaultCmd = true

	flags := root.PersistentFlags()
	s.config.AddFlags(flags)
	flags.StringVarP(&s.output, "output", "o", "table", "Output format: table, wide, json or yaml")
	flags.BoolVarP(&s.watch, "watch", "w", false, "Go on showing changes")
	flags.BoolVarP(&s.allNamespaces, "all-namespaces", "A", false, "Show the objects of all namespaces")
	flags.StringVar(&s.home, "godwit-namespace", "godwit-system", "Namespace that Godwit is installed in")

	root.AddCommand(newGet(s), newCreate(s), newGenerate(s), newDelete(s), newCancel(s), newRollback(s), newLimit(s),
		newPerform(s), newActivate(s, true), newActivate(s, false), newSuspend(s, "suspend", "Make no more runs of a schedule", true), newSuspend(s, "resume", "Let a suspended schedule go on", false), newRotate(s), newReset(s), newPlan(s), newDrill(s), newLogs(s), newMustGather(s), newVolume(s), newVersion(s))
	return root
}

// group is the body of a command that only has commands below it: it says which.
func group(what, choices string) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("%s needs %s: %s (see %s --help)", cmd.CommandPath(), what, choices, cmd.CommandPath())
		}
		return fmt.Errorf("%s does not know %q: say %s (see %s --help)", cmd.CommandPath(), args[0], choices, cmd.CommandPath())
	}
}

// checkShared refuses shared flags that the command would have to ignore.
func (s *session) checkShared(cmd *cobra.Command) error {
	for _, flag := range []string{usesOutput, usesWatch, usesAllNamespaces} {
		if cmd.Flags().Changed(flag) && cmd.Annotations[flag] == "" && cmd.HasParent() && !cmd.HasSubCommands() {
			return fmt.Errorf("--%s does not apply to %s: leave it out", flag, cmd.CommandPath())
		}
	}
	switch s.output {
	case "table", "wide", "json", "yaml":
	default:
		return fmt.Errorf("--output %q is not known: say table, wide, json or yaml", s.output)
	}
	if s.allNamespaces && cmd.Flags().Changed("namespace") {
		return errors.New("--namespace and --all-namespaces exclude each other: leave one out")
	}
	return nil
}

// uses marks the shared flags that a command listens to.
func uses(flags ...string) map[string]string {
	m := make(map[string]string, len(flags))
	for _, flag := range flags {
		m[flag] = "yes"
	}
	return m
}
