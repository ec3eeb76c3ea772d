package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func newCreate(s *session) *cobra.Command {
	create := &cobra.Command{
		Use:   "create",
		Short: "Create Godwit's objects",
		Args:  cobra.ArbitraryArgs,
		RunE:  group("what to create", "migration, migrationschedule, schedulepolicy, backuplocation or token"),
	}
	create.AddCommand(newCreateMigration(s), newCreateMigrationSchedule(s), newCreateSchedulePolicy(s), newCreateBackupLocation(s), newCreateToken(s))
	return create
}

// exactlyOne gives the one name that a command takes.
func exactlyOne(what string, args []string) (string, error) {
	if len(args) != 1 {
		return "", fmt.Errorf("exactly one name needs to be provided for %s name", what)
	}
	return args[0], nil
}

// noNames is for commands that take no name.
func noNames(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return errors.New(cmd.CommandPath() + " takes no name: leave out " + args[0])
	}
	return nil
}
