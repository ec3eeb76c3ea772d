package controller

import (
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/workload"
)

// largestAsk keeps a question to the target below what its server takes.
const largestAsk = 3 << 20

// ask is one question of a preflight, and whom it is for.
type ask struct {
	target  migrate.Target
	objects []byte
	volumes []migrate.Claim
}

// asks parts the objects by the pair that answers for them, and packs each part
// into as few questions as the wire allows. The first is for the Migration's own
// pair, which answers for the volumes too.
//
// Of volumes that are handed over the admin pair is asked, if there is one.
func (x *run) asks(g gathered, claims []migrate.Claim) ([]ask, error) {
	own, vouched := g.objects, []unstructured.Unstructured(nil)
	if x.admin != nil {
		own = nil
		for _, o := range g.objects {
			if o.GetNamespace() == "" {
				vouched = append(vouched, o)
			} else {
				own = append(own, o)
			}
		}
	}
	all, err := asksOf(x.target, g, own)
	if err != nil {
		return nil, err
	}
	copied, moved := partMoved(claims)
	if x.admin == nil {
		copied, moved = claims, nil
	}
	all[0].volumes = copied
	if len(vouched)+len(moved) == 0 {
		return all, nil
	}
	more, err := asksOf(x.admin, g, vouched)
	if err != nil {
		return nil, err
	}
	more[0].volumes = moved
	return append(all, more...), nil
}

func asksOf(target migrate.Target, g gathered, objects []unstructured.Unstructured) ([]ask, error) {
	packed, err := splitter{instructions: g.instructions, most: largestAsk}.split(objects)
	all := make([]ask, 0, len(packed))
	for _, p := range packed {
		all = append(all, ask{target: target, objects: p})
	}
	return all, err
}

// splitter packs objects into questions.
type splitter struct {
	instructions workload.Instructions
	// most is how large a question may be.
	most int
	// shared go with every question.
	shared []unstructured.Unstructured
}

// split packs the objects into questions that the wire allows, cut between
// namespaces, so that each is held against its quotas as a whole. What has no
// namespace goes with every question: others lean on it.
func (s splitter) split(objects []unstructured.Unstructured) ([][]byte, error) {
	var names []string
	of := make(map[string][]unstructured.Unstructured)
	for _, o := range objects {
		name := o.GetNamespace()
		if name == "" {
			s.shared = append(s.shared, o)
			continue
		}
		if of[name] == nil {
			names = append(names, name)
		}
		of[name] = append(of[name], o)
	}
	groups := make([][]unstructured.Unstructured, 0, len(names)+1)
	for _, name := range names {
		groups = append(groups, of[name])
	}
	alone, err := s.pack(nil)
	if err != nil {
		return nil, err
	}
	if len(groups) == 0 || len(alone) > s.most/2 {
		groups, s.shared = append([][]unstructured.Unstructured{s.shared}, groups...), nil
	}
	return s.parts(groups)
}

func (s splitter) pack(groups [][]unstructured.Unstructured) ([]byte, error) {
	packed, err := workload.Pack(s.instructions, slices.Concat(append([][]unstructured.Unstructured{s.shared}, groups...)...))
	if err != nil {
		return nil, err
	}
	return workload.Compress(packed)
}

// parts halves what is too large: first by groups, then within one.
func (s splitter) parts(groups [][]unstructured.Unstructured) ([][]byte, error) {
	packed, err := s.pack(groups)
	if err != nil {
		return nil, err
	}
	if len(packed) <= s.most {
		return [][]byte{packed}, nil
	}
	if len(groups) == 1 {
		half := len(groups[0]) / 2
		if half == 0 {
			return nil, final("ObjectTooLarge", "an object is too large to ask the target about: leave it out with spec.excludeSelectors")
		}
		groups = [][]unstructured.Unstructured{groups[0][:half], groups[0][half:]}
	}
	half := len(groups) / 2
	first, err := s.parts(groups[:half])
	if err != nil {
		return nil, err
	}
	second, err := s.parts(groups[half:])
	return append(first, second...), err
}

// addDetails adds what one answer tells. What was asked with several questions is
// told once.
func addDetails(plan *workload.Plan, details []byte) error {
	if len(details) == 0 {
		return nil
	}
	data, err := workload.Expand(details)
	var part workload.Plan
	if err == nil {
		err = json.Unmarshal(data, &part)
	}
	if err != nil {
		return fmt.Errorf("read the target's plan: %w", err)
	}
	known := make(map[workload.Ref]bool, len(plan.Objects))
	for _, o := range plan.Objects {
		known[o.Ref] = true
	}
	for _, o := range part.Objects {
		if !known[o.Ref] {
			plan.Objects = append(plan.Objects, o)
		}
	}
	plan.LeftOut = addNew(plan.LeftOut, part.LeftOut)
	plan.Lacks = addNew(plan.Lacks, part.Lacks)
	plan.Warnings = addNew(plan.Warnings, part.Warnings)
	for _, image := range part.Images {
		at := slices.IndexFunc(plan.Images, func(i workload.Image) bool { return i.Name == image.Name })
		if at < 0 {
			plan.Images = append(plan.Images, image)
			continue
		}
		plan.Images[at].Users = addNew(plan.Images[at].Users, image.Users)
	}
	return nil
}

func addNew[T comparable](all, more []T) []T {
	known := make(map[T]bool, len(all))
	for _, one := range all {
		known[one] = true
	}
	for _, one := range more {
		if !known[one] {
			all = append(all, one)
		}
	}
	return all
}
