package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/godwit-io/godwit/test/sandbox/internal/cluster"
	"github.com/godwit-io/godwit/test/sandbox/internal/node"
	"github.com/godwit-io/godwit/test/sandbox/internal/sandbox"
	"github.com/spf13/cobra"
)

func buildCommand(box *sandbox.Sandbox) *cobra.Command {
	return &cobra.Command{
		Use: "build", Short: "Build all programs into the cache, so that the first up is fast", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := box.Build(cmd.Context())
			return err
		},
	}
}

func whichCommand(box *sandbox.Sandbox) *cobra.Command {
	return &cobra.Command{
		Use: "which PROGRAM", Short: "Print the path of one of the built programs, such as kubectl", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			parts, err := box.Build(cmd.Context())
			if err != nil {
				return err
			}
			path, known := parts.Programs[args[0]]
			if !known {
				return fmt.Errorf("no program is named %s: there are %s", args[0], strings.Join(slices.Sorted(maps.Keys(parts.Programs)), ", "))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), path)
			return err
		},
	}
}

func upCommand(box *sandbox.Sandbox) *cobra.Command {
	var w sandbox.Wish
	cmd := &cobra.Command{
		Use: "up", Short: "Bring clusters and the object store up; what is up stays as it is", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := box.Up(cmd.Context(), w); err != nil {
				return err
			}
			return status(cmd.OutOrStdout(), box)
		},
	}
	cmd.Flags().StringSliceVar(&w.Clusters, "clusters", []string{"src", "dst"}, "names of the clusters")
	cmd.Flags().IntVar(&w.Nodes, "nodes", 0, "nodes of each new cluster (default 1)")
	cmd.Flags().BoolVar(&w.ControlPlane, "control-plane", false, "no containers: API servers, controllers and storage only; needs no root")
	return cmd
}

func downCommand(box *sandbox.Sandbox) *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use: "down [NAME...]", Short: "End clusters (default: all) and all they have on this machine but their state",
		RunE: func(cmd *cobra.Command, args []string) error { return box.Down(cmd.Context(), args, purge) },
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "remove their state as well")
	return cmd
}

func statusCommand(box *sandbox.Sandbox) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show clusters and object store", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return status(cmd.OutOrStdout(), box) },
	}
}

func status(out io.Writer, box *sandbox.Sandbox) error {
	clusters, err := box.Clusters()
	if err != nil {
		return err
	}
	if len(clusters) == 0 {
		fmt.Fprintf(out, "no clusters in %s\n", box.Dir)
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tNODES\tSERVER\tKUBECONFIG")
	for _, c := range clusters {
		fmt.Fprintf(w, "%s\t%d/%d up\t%s\t%s\n", c.Name, c.Running(), c.Nodes, c.Server(), c.Kubeconfig())
	}
	store, err := box.Store()
	if err != nil {
		return err
	}
	state := "down"
	if store.Running() {
		state = "up"
	}
	fmt.Fprintf(w, "s3\t%s\thttps://%s\t(sandbox s3 prints keys)\n", state, store.Address)
	return w.Flush()
}

func kubeconfigCommand(box *sandbox.Sandbox) *cobra.Command {
	var path bool
	cmd := &cobra.Command{
		Use: "kubeconfig NAME", Short: "Print a cluster's administrator kubeconfig", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := box.Cluster(args[0])
			if err != nil {
				return err
			}
			if path {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), c.Kubeconfig())
				return err
			}
			b, err := os.ReadFile(c.Kubeconfig())
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(b)
			return err
		},
	}
	cmd.Flags().BoolVar(&path, "path", false, "print the path of the file instead")
	return cmd
}

func shellCommand(box *sandbox.Sandbox) *cobra.Command {
	var index int
	cmd := &cobra.Command{
		Use: "shell NAME [-- COMMAND...]", Short: "Run a shell or a command inside a node, with kubectl at hand", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := box.Cluster(args[0])
			if err != nil {
				return err
			}
			if index < 0 || index >= c.Nodes {
				return fmt.Errorf("cluster %s has nodes 0 to %d", c.Name, c.Nodes-1)
			}
			command := args[1:]
			if len(command) == 0 {
				command = []string{"/bin/sh"}
			}
			argv := command
			if !c.ControlPlane {
				if argv, err = c.Node(index).Enter(command...); err != nil {
					return err
				}
			}
			return enter(argv, c.Kubeconfig(), box)
		},
	}
	cmd.Flags().IntVar(&index, "node", 0, "index of the node")
	return cmd
}

// enter replaces this program.
func enter(argv []string, kubeconfig string, box *sandbox.Sandbox) error {
	env := append(os.Environ(), "KUBECONFIG="+kubeconfig)
	if folder, err := box.ProgramsDir(); err == nil {
		path := folder + ":" + os.Getenv("PATH")
		env = append(env, "PATH="+path)
		if err := os.Setenv("PATH", path); err != nil { // for the look-up below
			return err
		}
	}
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return syscall.Exec(program, argv, env)
}

func loadCommand(box *sandbox.Sandbox) *cobra.Command {
	var names []string
	cmd := &cobra.Command{
		Use: "load ARCHIVE...", Short: "Give image archives to every node of the running clusters", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return box.Load(cmd.Context(), names, args) },
	}
	cmd.Flags().StringSliceVar(&names, "clusters", nil, "only these clusters")
	return cmd
}

func s3Command(box *sandbox.Sandbox) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "s3", Short: "Print the object store's endpoint, bucket and keys as shell assignments", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := box.Store()
			if err != nil {
				return err
			}
			a, err := store.Access()
			if err != nil {
				return err
			}
			switch output {
			case "json":
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(a)
			case "":
				_, err = fmt.Fprintf(cmd.OutOrStdout(),
					"S3_ENDPOINT=%s\nS3_BUCKET=%s\nS3_REGION=%s\nS3_ACCESS_KEY=%s\nS3_SECRET_KEY=%s\nS3_CA_FILE=%s\n",
					a.Endpoint, a.Bucket, a.Region, a.AccessKey, string(a.SecretKey), quote(a.CAFile))
				return err
			}
			return fmt.Errorf("output %q: want json or nothing", output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json")
	return cmd
}

// quote makes a word of a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// planeRunCommand is how a cluster without containers is started; it is not for users.
func planeRunCommand() *cobra.Command {
	return &cobra.Command{
		Use: "plane-run FILE", Hidden: true, Args: cobra.ExactArgs(1),
		PersistentPreRun: func(*cobra.Command, []string) {},
		RunE:             func(cmd *cobra.Command, args []string) error { return cluster.RunPlane(cmd.Context(), args[0]) },
	}
}

// nodeInitCommand is how a node's first process is started; it is not for users.
func nodeInitCommand() *cobra.Command {
	return &cobra.Command{
		Use: "node-init SPEC", Hidden: true, Args: cobra.ExactArgs(1),
		PersistentPreRun: func(*cobra.Command, []string) {},
		RunE: func(cmd *cobra.Command, args []string) error {
			return node.Init(cmd.Context(), args[0], os.Stdin, os.NewFile(3, "prepared"))
		},
	}
}
