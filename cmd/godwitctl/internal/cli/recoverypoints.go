package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	"github.com/godwit-io/godwit/cmd/godwitctl/internal/table"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

func newGetRecoveryPoints(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "recoverypoints [APPLICATION...]",
		Aliases: []string{"recoverypoint", "rp"},
		Short:   "Show what this cluster, a target, can bring applications up from",
		Long: `Show the sealed rounds of applications that are in the object store, the newest
first. This cluster's controller reads them from the store alone: the source may
be gone. perform failover --to takes the name of one whose seal is Valid.

APPLICATION is namespace/name, as get standby shows it, or a Standby's own name.`,
		Annotations: uses(usesOutput),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.recoveryPoints(cmd.Context(), args)
		},
	}
}

// pointsOfStandby are the recovery points of one standby as JSON and YAML tell them.
type pointsOfStandby struct {
	Standby     string `json:"standby"`
	Application string `json:"application"`
	// Here is the round that the standby holds.
	Here   string              `json:"here,omitempty"`
	Points *api.RecoveryPoints `json:"points"`
}

func (s *session) recoveryPoints(ctx context.Context, names []string) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	standbies, err := s.standbies(ctx, c, names)
	if err != nil {
		return err
	}
	if !s.tabular() {
		return s.printPoints(standbies)
	}
	now := time.Now()
	if t := table.RecoveryPoints(standbies, now); len(t.Rows) > 0 {
		err = s.tables().PrintObj(t, s.env.Streams.Out)
	} else {
		err = s.out("No resources found.")
	}
	if err != nil {
		return err
	}
	for _, standby := range standbies {
		if note := aboutPoints(standby, now); note != "" {
			if err := s.hint("%s: %s", standby.Spec.Application, note); err != nil {
				return err
			}
		}
	}
	return nil
}

// aboutPoints says what the list does not show.
func aboutPoints(s *api.Standby, now time.Time) string {
	p := s.Status.Points
	var notes []string
	switch {
	case p == nil:
		return "the repository has not been read yet: try again in a moment"
	case p.Listed == nil:
		notes = append(notes, "the repository could not be read yet")
	case p.Message != "":
		notes = append(notes, "this is what the repository had "+quantity.Duration(now.Sub(p.Listed.Time))+" ago")
	}
	if p.Message != "" {
		notes = append(notes, p.Message)
	}
	if more := int(p.Total) - len(p.Items); more > 0 {
		notes = append(notes, fmt.Sprintf("%d older ones are not listed", more))
	}
	return strings.Join(notes, "; ")
}

func (s *session) standbies(ctx context.Context, c client.Client, names []string) ([]*api.Standby, error) {
	var out []*api.Standby
	for _, name := range names {
		standby, err := s.findStandby(ctx, c, name)
		if err != nil {
			return nil, err
		}
		out = append(out, standby)
	}
	if len(names) > 0 {
		return out, nil
	}
	objs, err := s.listed(ctx, c, selection{kind: standbyKind()}, s.home)
	if err != nil {
		return nil, err
	}
	for _, obj := range objs {
		if standby, ok := obj.(*api.Standby); ok && standby.Spec.Drill == nil {
			out = append(out, standby)
		}
	}
	return out, nil
}

func (s *session) printPoints(standbies []*api.Standby) error {
	all := []pointsOfStandby{}
	for _, standby := range standbies {
		all = append(all, pointsOfStandby{
			Standby: standby.Name, Application: standby.Spec.Application, Here: standby.Status.Round, Points: standby.Status.Points,
		})
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err == nil && s.output == "yaml" {
		data, err = yaml.JSONToYAML(data)
	}
	if err != nil {
		return fmt.Errorf("print the recovery points: %w", err)
	}
	return s.out("%s", strings.TrimRight(string(data), "\n"))
}
