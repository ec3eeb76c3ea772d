package target

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/godwit-io/godwit/daemon/hook"
	"github.com/godwit-io/godwit/daemon/migrate"
)

const hooksDisabled = "hooks are not enabled on the target: install Godwit there with --set hooks.enabled=true, or leave the hook out"

// Hook runs a hook of the source here: as an object that the pair brings, it is
// held against what the pair may bring.
func (s *session) Hook(ctx context.Context, h migrate.Hook) (migrate.HookResult, error) {
	if err := s.admit(h.Application, h.Namespaces, nil); err != nil {
		return migrate.HookResult{}, err
	}
	if h.Drop && s.Hooks == nil {
		return migrate.HookResult{Done: true}, nil
	}
	if h.Drop {
		done, err := s.Hooks.Drop(ctx, s.peer.PairID, h.RoundRef)
		return migrate.HookResult{Done: done}, err
	}
	problem, err := s.judgeHook(ctx, h)
	if err != nil {
		return migrate.HookResult{}, err
	}
	if problem != "" {
		return migrate.HookResult{Done: true, Message: problem}, nil
	}
	result, err := s.Hooks.Ensure(ctx, s.peer.PairID, h)
	if errors.Is(err, hook.ErrUnusable) {
		return migrate.HookResult{Done: true, Message: err.Error()}, nil
	}
	return result, err
}

// judgeHook says why a hook may not run here; empty if it may.
func (s *session) judgeHook(ctx context.Context, h migrate.Hook) (string, error) {
	if s.Hooks == nil {
		return hooksDisabled, nil
	}
	job, err := s.Hooks.Job(s.peer.PairID, h)
	if err != nil {
		return err.Error(), nil //nolint:nilerr // What it is made of is the source's to change.
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(job)
	if err != nil {
		return "", fmt.Errorf("hook %s: write its Job: %w", h.Name, err)
	}
	x := &run{Agent: s.Agent, peer: s.peer}
	d, err := x.decide(ctx, unstructured.Unstructured{Object: fields}, nil)
	if err != nil {
		return "", fmt.Errorf("hook %s: %w", h.Name, err)
	}
	if d.Refused != "" {
		return fmt.Sprintf("hook %s may not run on the target: %s", h.Name, d.Refused), nil
	}
	return "", nil
}

// checkHook foresees whether a hook can run; its namespace may come with the
// round, unless it runs before.
func (s *session) checkHook(ctx context.Context, h migrate.Hook) (*migrate.Problem, error) {
	problem, err := s.judgeHook(ctx, h)
	if err != nil {
		return nil, err
	}
	if problem == "" && h.Phase != migrate.PostRestore {
		var ns corev1.Namespace
		err := s.Live.Get(ctx, types.NamespacedName{Name: h.Namespace}, &ns)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("read namespace %s: %w", h.Namespace, err)
		}
		if err != nil {
			problem = fmt.Sprintf("hook %s: namespace %s is not on the target yet at %s: create it there, or name another", h.Name, h.Namespace, h.Phase)
		}
	}
	if problem == "" {
		return nil, nil //nolint:nilnil // no problem, no error
	}
	return &migrate.Problem{Reason: "HookRefused", Message: problem}, nil
}
