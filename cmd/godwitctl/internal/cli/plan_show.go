package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/quantity"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/workload"
)

// paint colours lines on a terminal, unless its user wants none.
type paint bool

func (p paint) in(colour, text string) string {
	if !p {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

const (
	red, green, yellow, faint = "31", "32", "33", "2"
)

func (s *session) printPlans(plans []planned) error {
	data, err := json.MarshalIndent(plans, "", "  ")
	if err == nil && s.output == "yaml" {
		data, err = yaml.JSONToYAML(data)
	}
	if err != nil {
		return fmt.Errorf("print the plan: %w", err)
	}
	return s.out("%s", strings.TrimRight(string(data), "\n"))
}

func (s *session) showPlans(plans []planned, all bool) error {
	_, terminal := s.env.Terminal()
	p := paint(terminal && s.env.Getenv("NO_COLOR") == "")
	for _, plan := range plans {
		lines := []string{fmt.Sprintf("Migration %s/%s", plan.Namespace, plan.Name)}
		lines = append(lines, volumeLines(plan)...)
		lines = append(lines, objectLines(p, plan.Objects, all)...)
		lines = append(lines, leftOutLines(plan.LeftOut, all)...)
		lines = append(lines, imageLine(p, plan.Images)...)
		for _, l := range plan.Lacks {
			if !l.Fails { // The others are among the problems.
				lines = append(lines, p.in(yellow, "the target lacks: "+l.Message))
			}
		}
		for _, warning := range plan.Warnings {
			lines = append(lines, p.in(yellow, "warning: "+warning))
		}
		for _, problem := range plan.Problems {
			lines = append(lines, p.in(red, "problem: "+problem))
		}
		lines = append(lines, summary(plan))
		if err := s.out("%s", strings.Join(lines, "\n")); err != nil {
			return err
		}
	}
	return nil
}

func volumeLines(plan planned) []string {
	var lines []string
	for _, v := range plan.Volumes {
		how := string(v.Method)
		if v.Action == api.VolumeMove {
			how = string(v.Action)
		}
		line := fmt.Sprintf("  volume %s/%s  %s  %s", v.Namespace, v.PersistentVolumeClaim, quantity.Bytes(v.BytesTotal), how)
		if v.MethodReason != "" {
			line += " (" + v.MethodReason + ")"
		}
		lines = append(lines, line)
		if last, found := plan.LastRounds[v.Namespace+"/"+v.PersistentVolumeClaim]; found {
			lines = append(lines, fmt.Sprintf("      its last round, of %s by Migration %s: %s had changed, %s were sent (%s); what changed since is not known before there is a snapshot",
				last.Taken.UTC().Format(time.RFC822), last.Migration, quantity.Bytes(last.BytesChanged), quantity.Bytes(last.BytesUploaded), last.Rung))
		}
	}
	return lines
}

// objectLines shows new objects by name and changed ones field by field.
func objectLines(p paint, objects []workload.Outlook, all bool) []string {
	var lines []string
	sorted := slices.Clone(objects)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].Ref.String() < sorted[j].Ref.String() })
	for _, o := range sorted {
		line := ""
		switch {
		case o.Problem != "":
			line = p.in(red, "  ! "+o.Ref.String())
		case o.Action == workload.Created:
			line = p.in(green, "  + "+o.Ref.String())
		case o.Action == workload.Updated:
			line = p.in(yellow, "  ~ "+o.Ref.String())
		case o.Action == workload.Recreated:
			line = p.in(yellow, "  ± "+o.Ref.String()+" is deleted and made anew")
		case o.Action == workload.Refused:
			line = p.in(red, "  x "+o.Ref.String()+": "+o.Reason)
		case o.Action == workload.Kept:
			line = p.in(faint, "  . "+o.Ref.String()+" stays as it is on the target")
		case all:
			line = p.in(faint, "  = "+o.Ref.String())
		default:
			continue
		}
		if o.From.Kind != "" && (o.From.Namespace != o.Ref.Namespace || o.From.Name != o.Ref.Name) {
			line += p.in(faint, " (from "+o.From.String()+")")
		}
		lines = append(lines, line)
		for _, c := range o.Changes {
			lines = append(lines, changeLines(p, c)...)
		}
		for _, by := range o.By {
			lines = append(lines, p.in(faint, "      changed by "+by))
		}
		for _, rewritten := range o.Rewritten {
			lines = append(lines, p.in(faint, "      reference followed: "+rewritten))
		}
	}
	return lines
}

func changeLines(p paint, c workload.Change) []string {
	var lines []string
	if c.Old != nil {
		lines = append(lines, p.in(red, "      - "+c.Path+": "+inline(c.Old)))
	}
	if c.New != nil {
		lines = append(lines, p.in(green, "      + "+c.Path+": "+inline(c.New)))
	}
	return lines
}

func inline(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	const limit = 200
	if len(data) > limit {
		return string(data[:limit]) + "…"
	}
	return string(data)
}

// imageLine says how much is known of the images.
func imageLine(p paint, images []workload.Image) []string {
	if len(images) == 0 {
		return nil
	}
	counts := make(map[workload.ImageKnown]int)
	for _, i := range images {
		counts[i.Known]++
	}
	return []string{p.in(faint, fmt.Sprintf("  %d images: %d on nodes of the target, %d of registries that its nodes pulled from, %d of which nothing is known there (no registry was asked)",
		len(images), counts[workload.ImageOnNode], counts[workload.ImageRegistryInUse], counts[workload.ImageUnknown]))}
}

// leftOutLines groups what does not move by rule, with the rule's reason.
func leftOutLines(left []workload.Skipped, all bool) []string {
	byRule := make(map[string][]workload.Skipped)
	for _, s := range left {
		byRule[s.Rule] = append(byRule[s.Rule], s)
	}
	rules := make([]string, 0, len(byRule))
	for rule := range byRule {
		rules = append(rules, rule)
	}
	slices.Sort(rules)
	var lines []string
	for _, rule := range rules {
		members := byRule[rule]
		lines = append(lines, fmt.Sprintf("  left out by rule %s (%d): %s", rule, len(members), members[0].Reason))
		const few = 5
		for i, s := range members {
			if i == few && !all && len(members) > few+1 {
				lines = append(lines, fmt.Sprintf("      and %d more: see --all", len(members)-few))
				break
			}
			line := "      " + s.Ref.String()
			if s.Reason != members[0].Reason {
				line += ": " + s.Reason
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func summary(plan planned) string {
	counts := make(map[workload.Action]int)
	problems := len(plan.Problems)
	for _, o := range plan.Objects {
		if o.Problem == "" {
			counts[o.Action]++
		}
	}
	var bytes int64
	for _, v := range plan.Volumes {
		bytes += v.BytesTotal
	}
	estimate := ""
	if plan.Seconds > 0 {
		estimate = ", about " + quantity.Duration(time.Duration(plan.Seconds)*time.Second) + " at the rate of earlier runs"
	}
	return fmt.Sprintf("Plan: %d to create, %d to change, %d to make anew, %d unchanged, %d to leave, %d refused; %d volumes of %s%s; %d problems",
		counts[workload.Created], counts[workload.Updated], counts[workload.Recreated], counts[workload.Unchanged],
		counts[workload.Kept], counts[workload.Refused], len(plan.Volumes), quantity.Bytes(bytes), estimate, problems)
}
