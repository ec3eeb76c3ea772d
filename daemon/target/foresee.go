package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/pairing"
)

// packedObjects are objects as a preflight brings them.
type packedObjects struct {
	instructions workload.Instructions
	objects      []unstructured.Unstructured
}

func unpack(data []byte) (packedObjects, error) {
	if len(data) == 0 {
		return packedObjects{}, nil
	}
	plain, err := workload.Expand(data)
	if err != nil {
		return packedObjects{}, fmt.Errorf("%w: %w", pairing.ErrRequest, err)
	}
	var p packedObjects
	if p.instructions, p.objects, err = workload.Unpack(plain); err != nil {
		return packedObjects{}, fmt.Errorf("%w: %w", pairing.ErrRequest, err)
	}
	return p, nil
}

// foresee finds out what would become of the objects, and writes nothing.
func (s *session) foresee(ctx context.Context, p migrate.Preflight, packed packedObjects) (migrate.Forecast, error) {
	var forecast migrate.Forecast
	if len(p.Objects) == 0 {
		return forecast, nil
	}
	changed, err := s.transform(ctx, transformation{
		application: p.Application, at: s.Now(), instructions: packed.instructions, objects: packed.objects,
	})
	var wrong *wrongRules
	if errors.As(err, &wrong) {
		forecast.Problems = rulesProblems(wrong.err)
		return forecast, nil
	}
	if err != nil {
		return forecast, err
	}
	seen, err := s.survey(ctx, changed, packed.instructions)
	if err != nil {
		return forecast, err
	}
	found, err := s.lacks(ctx, changed, seen, packed.instructions)
	if err != nil {
		return forecast, err
	}
	changed.Warnings = append(changed.Warnings, seen.addresses...)
	for _, o := range seen.outlooks {
		if o.Problem != "" {
			forecast.Problems = append(forecast.Problems, migrate.Problem{Reason: "ObjectRefused", Message: o.Problem})
		}
	}
	for _, l := range found.Lacks {
		if l.Fails {
			forecast.Problems = append(forecast.Problems, migrate.Problem{Reason: l.Reason, Message: l.Message})
		}
	}
	if !p.Details {
		return forecast, nil
	}
	forecast.Details, err = pack(workload.Plan{
		Objects: seen.outlooks, LeftOut: changed.LeftOut, Lacks: found.Lacks, Images: found.Images, Warnings: changed.Warnings,
	})
	return forecast, err
}

func pack(plan workload.Plan) ([]byte, error) {
	data, err := json.Marshal(plan)
	if err != nil {
		return nil, fmt.Errorf("write the plan: %w", err)
	}
	return workload.Compress(data)
}

// rulesProblems gives each thing that is wrong a line of its own.
func rulesProblems(err error) []migrate.Problem {
	var problems []migrate.Problem
	var walk func(error)
	walk = func(err error) {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, one := range joined.Unwrap() {
				walk(one)
			}
			return
		}
		problems = append(problems, migrate.Problem{Reason: "RulesInvalid", Message: err.Error()})
	}
	walk(err)
	return problems
}

// surveyed is what was found out about the objects.
type surveyed struct {
	// admitted are those that the pair may bring, as it may bring them.
	admitted []workload.Moved
	outlooks []workload.Outlook
	// addresses are lines about those that are given up.
	addresses []string
}

// survey looks at what the pair may bring. What it may not bring is told, and is
// no reason to fail: the Migration then ends with partial success. Claims are
// looked at with their volumes.
func (s *session) survey(ctx context.Context, changed workload.Transformed, i workload.Instructions) (surveyed, error) {
	var seen surveyed
	var refused []workload.Outlook
	x := &run{Agent: s.Agent, peer: s.peer}
	for _, moved := range changed.Objects {
		ref := workload.RefOf(&moved.Unstructured)
		if ref.Group == "" && ref.Kind == "PersistentVolumeClaim" {
			continue
		}
		d, err := x.decide(ctx, moved.Unstructured, changed.Objects)
		if err != nil {
			return seen, fmt.Errorf("judge %s: %w", ref, err)
		}
		switch {
		case d.Refused != "":
			refused = append(refused, workload.Outlook{Ref: ref, From: moved.From, Action: workload.Refused, Reason: d.Refused, By: moved.By})
		case d.Leave:
			refused = append(refused, workload.Outlook{Ref: ref, From: moved.From, Action: workload.Kept, By: moved.By})
		default:
			moved.Unstructured = d.Object
			seen.admitted = append(seen.admitted, moved)
		}
	}
	var err error
	if seen.addresses, err = workload.KeepAddresses(ctx, s.Objects, seen.admitted, s.Namespace, i); err != nil {
		return seen, err
	}
	seen.outlooks, err = workload.Survey(ctx, s.Objects, seen.admitted, workload.SurveyOptions{
		ApplyOptions:   workload.ApplyOptions{FieldManager: managedBy, Owner: s.peer.PairID, Conflicts: i.Conflicts},
		TrialNamespace: s.Namespace, Defined: changed.Defines,
	})
	seen.outlooks = append(seen.outlooks, refused...)
	return seen, err
}
