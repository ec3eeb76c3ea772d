package target

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/pairing"
)

// For is the agent as one peer may use it: only for namespaces of its pair.
func (a *Agent) For(p pairing.Peer) migrate.Target { return &session{Agent: a, peer: p} }

type session struct {
	*Agent
	peer pairing.Peer
}

var _ migrate.Target = (*session)(nil)

// Preflight looks for what would fail: rules that cannot be followed, objects that
// the cluster would not take or that are in dispute, classes that are not there,
// and claims that are there already.
func (s *session) Preflight(ctx context.Context, p migrate.Preflight) (migrate.Forecast, error) {
	var forecast migrate.Forecast
	if err := s.admit(p.Application, p.Namespaces, p.Volumes); err != nil {
		return forecast, err
	}
	if err := s.fenced(ctx, p.Application); err != nil {
		return forecast, err
	}
	packed, err := unpack(p.Objects)
	if err != nil {
		return forecast, err
	}
	left, err := s.leftBehind(ctx, s.peer, p.Application)
	if err != nil {
		return forecast, err
	}
	if len(left) > 0 {
		packed.instructions.Conflicts = comesBack(packed.instructions.Conflicts)
	}
	if forecast, err = s.foresee(ctx, p, packed); err != nil {
		return forecast, err
	}
	if forecast.Served, err = s.served(p.Kinds); err != nil {
		return forecast, err
	}
	problems, err := s.checkParts(ctx, p, packed.instructions.Namespaces, left)
	forecast.Problems = append(forecast.Problems, problems...)
	return forecast, err
}

// checkParts looks at the hooks, and at the volumes that do not come back to claims
// that were left behind here.
func (s *session) checkParts(ctx context.Context, p migrate.Preflight, mapped map[string]string, left map[types.NamespacedName]bool) ([]migrate.Problem, error) {
	var problems []migrate.Problem
	for _, h := range p.Hooks {
		problem, err := s.checkHook(ctx, h)
		if err != nil {
			return nil, err
		}
		if problem != nil {
			problems = append(problems, *problem)
		}
	}
	var claims []migrate.Claim
	for _, c := range p.Volumes {
		if to := mapped[c.Namespace]; to != "" {
			c.Namespace = to
		}
		if !left[types.NamespacedName{Namespace: c.Namespace, Name: c.Name}] { // Those are adopted, as they are.
			claims = append(claims, c)
		}
	}
	for _, check := range []func(context.Context, []migrate.Claim) ([]migrate.Problem, error){s.checkClasses, s.checkClaims, s.checkAllMoved} {
		found, err := check(ctx, claims)
		if err != nil {
			return nil, err
		}
		problems = append(problems, found...)
	}
	return problems, nil
}

// admit holds a request against the pair's scope: whose application it is, what
// it covers, and where its volumes go.
func (s *session) admit(application string, namespaces []string, volumes []migrate.Claim) error {
	owner, _, found := strings.Cut(application, "/")
	if !found {
		return fmt.Errorf("application %q: %w: want namespace/name", application, pairing.ErrRequest)
	}
	if err := s.peer.Scope.Covers(owner); err != nil {
		return err
	}
	policy := s.policyOf(s.peer)
	if err := policy.CoverNamespace(namespaces...); err != nil {
		return err
	}
	seen := make(map[types.NamespacedName]bool, len(volumes))
	for _, v := range volumes {
		if err := policy.CoverNamespace(v.Namespace); err != nil {
			return err
		}
		name := types.NamespacedName{Namespace: v.Namespace, Name: v.Name}
		if seen[name] {
			return fmt.Errorf("claim %s comes twice: %w", name, pairing.ErrRequest)
		}
		seen[name] = true
	}
	return nil
}
