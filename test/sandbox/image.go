package main

import (
	"errors"
	"fmt"

	"github.com/godwit-io/godwit/test/sandbox/internal/sandbox"
	"github.com/spf13/cobra"
)

func imageCommand(box *sandbox.Sandbox) *cobra.Command {
	var r sandbox.Recipe
	var out string
	var copies, users []string
	var fresh bool
	cmd := &cobra.Command{
		Use:   "image --name NAME:TAG --out FILE.tar",
		Short: "Make an image archive from files and Debian packages, for sandbox load",
		Long: `Make an image archive from files of this machine and Debian packages with all they depend on.

Packages are unpacked, not installed: their scripts do not run, so users, alternatives and generated
files have to be given or made by the container's command. Manuals and locales are left out. The
same recipe with the same files is made only once.`,
		Example: `  sandbox image --name godwit-io/godwit:dev --out godwit.tar --copy bin/godwitd=/bin/godwitd --entrypoint /bin/godwitd
  sandbox image --name postgres:15 --out postgres.tar --from-deb postgresql-15 --busybox --add-user postgres=999:/var/lib/postgresql --user 999`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := parseRecipe(&r, copies, users); err != nil {
				return err
			}
			if err := box.MakeImage(cmd.Context(), r, out, fresh); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is in %s\n", r.Name, out)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Name, "name", "", "name and tag, as pods will ask for it")
	f.StringVar(&out, "out", "", "archive to write")
	f.StringSliceVar(&r.Debs, "from-deb", nil, "Debian packages")
	f.StringSliceVar(&r.Without, "without", nil, "packages to leave out although others depend on them")
	f.StringArrayVar(&copies, "copy", nil, "SRC=DST: a file or folder of this machine and its place in the image")
	f.StringArrayVar(&users, "add-user", nil, "NAME=ID[:HOME]: an account in the image")
	f.BoolVar(&r.Busybox, "busybox", false, "add a shell and the usual commands, where packages bring none")
	f.StringSliceVar(&r.Config.Entrypoint, "entrypoint", nil, "program and arguments that always start")
	f.StringSliceVar(&r.Config.Cmd, "cmd", nil, "arguments that a pod's args replace")
	f.StringVar(&r.Config.User, "user", "", "user (ID or name) to run as")
	f.StringVar(&r.Config.WorkingDir, "workdir", "", "folder to start in")
	f.StringArrayVar(&r.Config.Env, "env", nil, "K=V of the environment")
	f.BoolVar(&fresh, "fresh", false, "make it anew, with today's packages")
	for _, required := range []string{"name", "out"} {
		_ = cmd.MarkFlagRequired(required) // fails for unknown flags only
	}
	return cmd
}

func parseRecipe(r *sandbox.Recipe, copies, users []string) error {
	for _, text := range copies {
		c, err := sandbox.ParseCopy(text)
		if err != nil {
			return err
		}
		r.Copies = append(r.Copies, c)
	}
	for _, text := range users {
		u, err := sandbox.ParseUser(text)
		if err != nil {
			return err
		}
		r.Users = append(r.Users, u)
	}
	if len(r.Copies)+len(r.Debs) == 0 && !r.Busybox {
		return errors.New("an image of nothing: give --copy, --from-deb or --busybox")
	}
	r.Config.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, r.Config.Env...)
	return nil
}
