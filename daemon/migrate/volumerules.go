package migrate

import (
	"fmt"
	"slices"
)

// VolumeAction says what becomes of a claim.
type VolumeAction string

// The actions.
const (
	CopyVolume VolumeAction = "Copy"
	MoveVolume VolumeAction = "Move"
	SkipVolume VolumeAction = "Skip"
)

// everyClaim is the name by which a rule matches every claim.
const everyClaim = "*"

// VolumeRule says what becomes of the claims that it matches. Name, Labels and Class
// are matched where they are set; the rest is what is asked for, empty for nothing.
type VolumeRule struct {
	Name   string
	Labels map[string]string
	Class  string

	Action      VolumeAction
	Method      Method
	TargetClass string
	SizeBytes   int64
	AccessModes []string
}

// ClaimFacts is what rules are held against.
type ClaimFacts struct {
	Namespace, Name, Class string
	Labels                 map[string]string
	SizeBytes              int64
}

// RuleFor gives the first rule that matches the claim; copying it where none does.
func RuleFor(rules []VolumeRule, f ClaimFacts) VolumeRule {
	for _, r := range rules {
		if r.matches(f) {
			if r.Action == "" {
				r.Action = CopyVolume
			}
			return r
		}
	}
	return VolumeRule{Action: CopyVolume}
}

func (r VolumeRule) matches(f ClaimFacts) bool {
	if r.Name != "" && r.Name != everyClaim && r.Name != f.Name && r.Name != f.Namespace+"/"+f.Name || r.Class != "" && r.Class != f.Class {
		return false
	}
	for k, v := range r.Labels {
		if got, has := f.Labels[k]; !has || got != v {
			return false
		}
	}
	return r.Name != "" || r.Class != "" || len(r.Labels) > 0
}

// Refusal says why a claim cannot have what its rule asks for; empty if it can.
func (r VolumeRule) Refusal(f ClaimFacts) string {
	if r.SizeBytes != 0 && r.SizeBytes < f.SizeBytes {
		return fmt.Sprintf("spec.volumes asks for %d bytes, and it has %d: a volume never gets smaller: ask for at least that much, or leave size out", r.SizeBytes, f.SizeBytes)
	}
	return ""
}

// Warning says what the target may not keep; empty for nothing.
func (r VolumeRule) Warning(read Method, raw bool) string {
	for _, mode := range []string{"ReadWriteMany", "ReadOnlyMany"} {
		if slices.Contains(r.AccessModes, mode) && read == MethodBlock && !raw {
			return "spec.volumes asks for " + mode + ", and the volume comes as blocks with a filesystem on them, which only one node may mount: the target cannot keep it: use method Filesystem and a class of shared storage"
		}
	}
	return ""
}

// Sizes is how large a Migration is.
type Sizes struct{ Namespaces, Pods, Volumes int }

// The limits unless told otherwise.
const (
	DefaultMostNamespaces = 10
	DefaultMostPods       = 100
	DefaultMostVolumes    = 100
)

// Exceeds says by what a Migration is too large, and of what it should be warned.
func (s Sizes) Exceeds(most Sizes) (refused string, warnings []string) {
	if s.Namespaces > most.Namespaces {
		refused = fmt.Sprintf("it moves %d namespaces, and spec.limits.namespaces is %d: split it, or raise the limit", s.Namespaces, most.Namespaces)
	}
	if s.Pods > most.Pods {
		warnings = append(warnings, fmt.Sprintf("it moves %d pods, which is more than spec.limits.pods (%d)", s.Pods, most.Pods))
	}
	if s.Volumes > most.Volumes {
		warnings = append(warnings, fmt.Sprintf("it moves %d volumes, which is more than spec.limits.volumes (%d)", s.Volumes, most.Volumes))
	}
	return refused, warnings
}
