package rpc_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/rpc"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/pairingtest"
	pairingrpc "github.com/godwit-io/godwit/pairing/rpc"
)

// agent records what reaches it, and answers what it is told to.
type agent struct {
	mu        sync.Mutex
	peer      pairing.Peer
	preflight migrate.Preflight
	begin     migrate.Begin
	status    migrate.RoundRef
	cancel    migrate.Cancel
	vouch     migrate.Vouch
	hook      migrate.Hook
	rollBack  migrate.RollBack
	report    migrate.RollBackReport
	failOver  migrate.FailOver
	calls     int

	problems []migrate.Problem
	answer   migrate.TargetStatus
	done     bool
	err      error
}

func (a *agent) For(p pairing.Peer) migrate.Target {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.peer = p
	return a
}

func (a *agent) called() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	return a.err
}

func (a *agent) Preflight(_ context.Context, p migrate.Preflight) (migrate.Forecast, error) {
	a.preflight = p
	return migrate.Forecast{Problems: a.problems, Details: []byte("details"), Served: p.Kinds}, a.called()
}

func (a *agent) Begin(_ context.Context, b migrate.Begin) error {
	a.begin = b
	return a.called()
}

func (a *agent) Status(_ context.Context, r migrate.RoundRef) (migrate.TargetStatus, error) {
	a.status = r
	return a.answer, a.called()
}

func (a *agent) Hook(_ context.Context, h migrate.Hook) (migrate.HookResult, error) {
	a.hook = h
	return migrate.HookResult{Job: "j", Done: true, OK: true, Message: "m", Log: "l"}, a.called()
}

func (a *agent) Cancel(_ context.Context, r migrate.Cancel) (bool, error) {
	a.cancel = r
	return a.done, a.called()
}

func (a *agent) Vouch(_ context.Context, v migrate.Vouch) error {
	a.vouch = v
	return a.called()
}

func (a *agent) FailOver(_ context.Context, f migrate.FailOver) (migrate.FailOverReport, error) {
	a.failOver = f
	return migrate.FailOverReport{Stage: "LastMileMigration", Ended: true, Good: true, Message: "m"}, a.called()
}

func (a *agent) RollBack(_ context.Context, r migrate.RollBack) (migrate.RollBackReport, error) {
	a.rollBack = r
	return a.report, a.called()
}

// clusters is a target that listens on loopback, and a source paired with it.
type clusters struct {
	agent   agent
	remotes *rpc.Remotes
	grants  pairingtest.Grants
	peers   pairingtest.Peers
	peer    pairing.Peer
	stop    func()
}

func pair(t *testing.T, scope pairing.Scope) *clusters {
	t.Helper()
	c := &clusters{}
	authority, err := pairing.NewAuthority("target-id", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	server := pairingrpc.NewServer(pairingrpc.Config{
		Issuer: &pairing.Issuer{
			Grants: &c.grants, Peers: &c.peers, Ring: pairing.NewRing(authority), Now: time.Now, Random: rand.Reader,
		},
		StorageCheck: func(context.Context, pairing.Peer) error { return nil },
		Log:          slog.New(slog.DiscardHandler),
	}).GRPC()
	rpc.Register(server, c.agent.For)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener) //nolint:errcheck // it ends with Stop
	c.stop = server.Stop
	t.Cleanup(server.Stop)
	token, err := pairing.Mint(t.Context(), &c.grants, pairing.MintRequest{
		Scope: scope, Endpoint: listener.Addr().String(), ClusterID: "target-id", CAFingerprint: authority.Fingerprint(),
	}, time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	client := pairingrpc.Client{Now: time.Now}
	c.remotes = rpc.NewRemotes(&pairing.Joiner{
		Peers: &pairingtest.Peers{}, Exchange: client, ClusterID: "source-id", Now: time.Now, Random: rand.Reader,
	}, client)
	if c.peer, err = c.remotes.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.remotes.Close(c.peer.PairID) })
	return c
}

func (c *clusters) target(t *testing.T) migrate.Target {
	t.Helper()
	target, err := c.remotes.Target(t.Context(), c.peer)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func ref() migrate.RoundRef {
	return migrate.RoundRef{Application: "cms/move", Round: "r1", Namespaces: []string{"cms"}}
}

func claim(namespace string) migrate.Claim {
	return migrate.Claim{
		Namespace: namespace, Name: "data", StorageClass: "fast", VolumeMode: "Filesystem",
		AccessModes: []string{"ReadWriteOnce"}, SizeBytes: 1 << 40, Volume: "pvc-1",
	}
}

func kinds() []migrate.KindVersions {
	return []migrate.KindVersions{{Group: "a.example.com", Kind: "A", Versions: []string{"v1", "v1beta1"}}}
}

func cms() pairing.Scope { return pairing.Scope{Namespaces: []string{"cms"}} }

func TestRoundTrip(t *testing.T) {
	c := pair(t, cms())
	target := c.target(t)

	preflight := migrate.Preflight{Application: "cms/move", Namespaces: []string{"cms"}, Volumes: []migrate.Claim{claim("cms")}, Objects: []byte("objects"), Details: true, Kinds: kinds()}
	c.agent.problems = []migrate.Problem{{Reason: "NoClass", Message: "no class fast: make it"}}
	forecast, err := target.Preflight(t.Context(), preflight)
	if err != nil || !reflect.DeepEqual(forecast.Problems, c.agent.problems) || string(forecast.Details) != "details" || !reflect.DeepEqual(forecast.Served, kinds()) || !reflect.DeepEqual(c.agent.preflight, preflight) {
		t.Errorf("preflight: %+v, %v; the agent got %+v", forecast, err, c.agent.preflight)
	}
	if c.agent.peer.PairID != c.peer.PairID || c.agent.peer.Direction != pairing.Incoming {
		t.Errorf("the agent is for %+v", c.agent.peer)
	}

	begin := migrate.Begin{RoundRef: ref(), StartApplications: true, AwaitVouch: true, IncludeResources: true, Stage: true, Verify: "Full", Patience: 90 * time.Second, Volumes: []migrate.Claim{claim("cms")},
		Schedule:  &migrate.Schedule{Name: "nightly", Policy: "daily", AutoSuspend: true, Template: []byte(`{"clusterPair":"west"}`)},
		Selection: []byte(`{"selectors":{"app":"db"}}`)}
	if err := target.Begin(t.Context(), begin); err != nil || !reflect.DeepEqual(c.agent.begin, begin) {
		t.Errorf("begin: %v; the agent got %+v", err, c.agent.begin)
	}

	c.agent.answer = migrate.TargetStatus{
		Phase: migrate.TargetApplications, Message: "m",
		Retries: []migrate.TargetRetry{{Stage: "HandOver", Volume: "cms/data", Count: 2, Reason: "busy", First: time.Unix(1, 0).UTC(), Last: time.Unix(2, 0).UTC()}},
		Volumes: []migrate.TargetVolume{{
			Namespace: "cms", Name: "data", Volume: "pvc-2", Phase: "Applying", Reason: "r",
			BytesTotal: 10, BytesDone: 5, BytesPerSecond: 2, ETASec: 3,
		}},
		Resources: []migrate.TargetResource{
			{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "cms", Name: "db", OK: true, Reason: "done", TransformedBy: []string{"a rule"}},
			{Version: "v1", Kind: "Service", Namespace: "cms", Name: "old", OK: true, Purged: true},
			{Version: "v1", Kind: "Service", Namespace: "cms", Name: "db", Reason: "refused"},
		},
	}
	status, err := target.Status(t.Context(), ref())
	if err != nil || !reflect.DeepEqual(status, c.agent.answer) || !reflect.DeepEqual(c.agent.status, ref()) {
		t.Errorf("status: %+v, %v; the agent got %+v", status, err, c.agent.status)
	}

	vouch := migrate.Vouch{RoundRef: ref(), PairID: "another"}
	if err := target.Vouch(t.Context(), vouch); err != nil || !reflect.DeepEqual(c.agent.vouch, vouch) {
		t.Errorf("vouch: %v; the agent got %+v", err, c.agent.vouch)
	}

	for _, done := range []bool{false, true} {
		c.agent.done = done
		want := migrate.Cancel{RoundRef: ref(), Whole: done, Unfinished: !done}
		got, err := target.Cancel(t.Context(), want)
		if err != nil || got != done || !reflect.DeepEqual(c.agent.cancel, want) {
			t.Errorf("cancel: %t, %v; the agent got %+v", got, err, c.agent.cancel)
		}
	}
	for _, report := range []migrate.RollBackReport{{Done: true}, {Refused: true, Message: "written to"}} {
		c.agent.report = report
		want := migrate.RollBack{RoundRef: ref(), DropWrites: report.Done, BringWrites: report.Refused, Request: 7}
		got, err := target.RollBack(t.Context(), want)
		if err != nil || got != report || !reflect.DeepEqual(c.agent.rollBack, want) {
			t.Errorf("roll back: %+v, %v; the agent got %+v", got, err, c.agent.rollBack)
		}
	}
}

// TestHookOfAUser sees that the user gets to the target, and that a request without a
// job, as one who knows no users reads it, is refused.
func TestHookOfAUser(t *testing.T) {
	c := pair(t, cms())
	target := c.target(t)
	forecast, err := target.Preflight(t.Context(), migrate.Preflight{Application: "cms/move", Namespaces: []string{"cms"}})
	if err != nil || !forecast.HookUsers {
		t.Errorf("preflight: %+v, %v", forecast, err)
	}
	user, group := int64(1001), int64(0)
	for _, u := range []*migrate.HookUser{nil, {User: &user, Group: &group}, {FSGroup: &user}} {
		h := migrate.Hook{
			RoundRef: ref(), Name: "warm", Phase: migrate.PostRestore, Namespace: "cms", ServiceAccount: "default", User: u,
			Image: "i", Command: []string{"true"}, BackoffLimit: 2, Deadline: time.Minute, Started: true,
		}
		r, err := target.Hook(t.Context(), h)
		if err != nil || r.Job != "j" || !reflect.DeepEqual(c.agent.hook, h) {
			t.Errorf("hook: %+v, %v; the agent got %+v", r, err, c.agent.hook)
		}
	}
	calls := c.agent.calls
	if _, err := target.Hook(t.Context(), migrate.Hook{RoundRef: ref()}); !errors.Is(err, pairing.ErrRequest) || c.agent.calls != calls {
		t.Errorf("a hook without a job: %v", err)
	}
}

func TestRefused(t *testing.T) {
	c := pair(t, cms())
	target := c.target(t)
	outside := ref()
	outside.Namespaces = []string{"cms", "shop"}
	foreign := ref()
	foreign.Application = "shop/move"
	for name, tt := range map[string]struct {
		call func() error
		want error
	}{
		"preflight of another namespace": {want: pairing.ErrNamespace, call: func() error {
			_, err := target.Preflight(t.Context(), migrate.Preflight{Application: "cms/move", Namespaces: outside.Namespaces})
			return err
		}},
		"preflight of a volume elsewhere": {want: pairing.ErrNamespace, call: func() error {
			_, err := target.Preflight(t.Context(), migrate.Preflight{
				Application: "cms/move", Namespaces: []string{"cms"}, Volumes: []migrate.Claim{claim("shop")},
			})
			return err
		}},
		"preflight of nothing": {want: pairing.ErrRequest, call: func() error {
			_, err := target.Preflight(t.Context(), migrate.Preflight{Application: "cms/move"})
			return err
		}},
		"begin in another namespace": {want: pairing.ErrNamespace, call: func() error {
			return target.Begin(t.Context(), migrate.Begin{RoundRef: outside})
		}},
		"begin with a volume elsewhere": {want: pairing.ErrNamespace, call: func() error {
			return target.Begin(t.Context(), migrate.Begin{RoundRef: ref(), Volumes: []migrate.Claim{claim("kube-system")}})
		}},
		"begin of nothing": {want: pairing.ErrRequest, call: func() error {
			return target.Begin(t.Context(), migrate.Begin{RoundRef: migrate.RoundRef{Application: "cms/move", Round: "r1"}})
		}},
		"begin with a name without end": {want: pairing.ErrRequest, call: func() error {
			long := ref()
			long.Round = strings.Repeat("r", 1000)
			return target.Begin(t.Context(), migrate.Begin{RoundRef: long})
		}},
		"begin with a volume of less than nothing": {want: pairing.ErrRequest, call: func() error {
			c := claim("cms")
			c.SizeBytes = -1
			return target.Begin(t.Context(), migrate.Begin{RoundRef: ref(), Volumes: []migrate.Claim{c}})
		}},
		"begin without end": {want: pairing.ErrRequest, call: func() error {
			return target.Begin(t.Context(), migrate.Begin{RoundRef: ref(), Volumes: make([]migrate.Claim, 5000)})
		}},
		"begin with a selection without end": {want: pairing.ErrRequest, call: func() error {
			return target.Begin(t.Context(), migrate.Begin{RoundRef: ref(), Selection: make([]byte, 1<<20)})
		}},
		"begin without a round": {want: pairing.ErrRequest, call: func() error {
			return target.Begin(t.Context(), migrate.Begin{RoundRef: migrate.RoundRef{Application: "cms/move", Namespaces: []string{"cms"}}})
		}},
		"status of another's application": {want: pairing.ErrNamespace, call: func() error {
			_, err := target.Status(t.Context(), foreign)
			return err
		}},
		"cancel of another's application": {want: pairing.ErrNamespace, call: func() error {
			_, err := target.Cancel(t.Context(), migrate.Cancel{RoundRef: foreign})
			return err
		}},
		"vouch for another's application": {want: pairing.ErrNamespace, call: func() error {
			return target.Vouch(t.Context(), migrate.Vouch{RoundRef: foreign, PairID: "p"})
		}},
		"vouch for other namespaces": {want: pairing.ErrNamespace, call: func() error {
			return target.Vouch(t.Context(), migrate.Vouch{RoundRef: outside, PairID: "p"})
		}},
		"vouch for a pair without end": {want: pairing.ErrRequest, call: func() error {
			return target.Vouch(t.Context(), migrate.Vouch{RoundRef: ref(), PairID: strings.Repeat("p", 1000)})
		}},
		"cancel of no application": {want: pairing.ErrRequest, call: func() error {
			_, err := target.Cancel(t.Context(), migrate.Cancel{RoundRef: migrate.RoundRef{Application: "cms", Round: "r1"}})
			return err
		}},
	} {
		if err := tt.call(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if c.agent.calls != 0 {
		t.Errorf("%d calls reached the agent", c.agent.calls)
	}
}

func TestAdminPairCoversAll(t *testing.T) {
	c := pair(t, pairing.Scope{Admin: true})
	everywhere := ref()
	everywhere.Namespaces = []string{"cms", "shop"}
	if err := c.target(t).Begin(t.Context(), migrate.Begin{RoundRef: everywhere}); err != nil {
		t.Error(err)
	}
}

func TestErrorsKeepTheirWords(t *testing.T) {
	c := pair(t, cms())
	target := c.target(t)
	c.agent.err = fmt.Errorf("round r1: %w", migrate.ErrUnknownRound)
	if _, err := target.Status(t.Context(), ref()); !errors.Is(err, migrate.ErrUnknownRound) {
		t.Errorf("unknown round: %v", err)
	}
	c.agent.err = errors.New("quota exceeded: raise it")
	err := target.Begin(t.Context(), migrate.Begin{RoundRef: ref()})
	if err == nil || !strings.Contains(err.Error(), "quota exceeded: raise it") || strings.Contains(err.Error(), "rpc error") {
		t.Errorf("the agent's words: %v", err)
	}
	c.agent.err = nil
	c.agent.answer = migrate.TargetStatus{Phase: "Finished"}
	if _, err := target.Status(t.Context(), ref()); !errors.Is(err, pairing.ErrAnswer) {
		t.Errorf("a phase that nobody knows: %v", err)
	}
}

func TestRevokedAndGone(t *testing.T) {
	c := pair(t, cms())
	target := c.target(t)
	if err := pairing.Revoke(t.Context(), &c.grants, &c.peers, c.peer.PairID); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Status(t.Context(), ref()); !errors.Is(err, pairing.ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
	c.stop()
	_, err := target.Status(t.Context(), ref())
	if !errors.Is(err, pairing.ErrUnreachable) || !strings.Contains(err.Error(), "cannot reach "+c.peer.Endpoint) {
		t.Errorf("gone: %v", err)
	}
	if c.agent.calls != 0 {
		t.Errorf("%d calls reached the agent", c.agent.calls)
	}
}

// Served without the guard of pairing/rpc there is no peer, and no call is let in.
func TestWithoutTheGuard(t *testing.T) {
	c := pair(t, cms())
	server := &recorder{}
	rpc.Register(server, c.agent.For)
	if server.implementation == nil {
		t.Fatal("nothing was registered")
	}
	s, _ := server.implementation.(*rpc.Server)
	if _, err := s.Status(t.Context(), nil); err == nil {
		t.Error("a call without a peer was let in")
	}
}

type recorder struct{ implementation any }

func (r *recorder) RegisterService(_ *grpc.ServiceDesc, implementation any) {
	r.implementation = implementation
}

func TestRemotesFollowThePeer(t *testing.T) {
	c := pair(t, cms())
	if _, _, err := c.remotes.Check(t.Context(), c.peer); err != nil {
		t.Fatal(err)
	}
	moved := c.peer
	moved.Endpoint = "127.0.0.1:1"
	if _, _, err := c.remotes.Check(t.Context(), moved); !errors.Is(err, pairing.ErrUnreachable) {
		t.Errorf("at an address where nobody is: %v", err)
	}
	if _, _, err := c.remotes.Check(t.Context(), c.peer); err != nil {
		t.Errorf("back again: %v", err)
	}
	c.remotes.Close(c.peer.PairID)
	c.remotes.Close(c.peer.PairID)
	if _, _, err := c.remotes.Check(t.Context(), c.peer); err != nil {
		t.Errorf("after leaving: %v", err)
	}
}
