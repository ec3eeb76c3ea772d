package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// Siege is a Migration in which every process of Godwit is killed, each at a
// random moment of its own part.
type Siege struct {
	// Namespace is the application's, Migration and Pair are names in it.
	Namespace, Migration, Pair string
	// Phases are those of a transfer in which its daemon is killed.
	Phases []api.TransferPhase
	// Controllers and Nodes are killed this long after their part has begun, at most.
	Controllers, Nodes time.Duration
	// Seed chooses the moments.
	Seed uint64
}

// blow ends one process of Godwit some time after its part has begun.
type blow struct {
	cluster Cluster
	daemon  string
	when    sign
	after   time.Duration
}

// Besiege applies the Migration, kills every process that takes part, once each,
// and waits until the Migration has succeeded all the same.
func (g *Ground) Besiege(ctx context.Context, s Siege) error {
	if err := g.Source.Apply(ctx, []byte(MigrationOf(s.Namespace, s.Migration, s.Pair, s.Namespace))); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(s.Seed, 0)) // The seed is told, so that a run can be repeated.
	after := func(most time.Duration) time.Duration { return time.Duration(random.Int64N(int64(most))) }
	controller, node, transferring := "godwitd controller", "godwitd node", transferring(s.Namespace, s.Phases...)
	blows := []blow{
		{g.Source, controller, admitted(s.Namespace, s.Migration), after(s.Controllers)},
		{g.Source, node, transferring, after(s.Nodes)},
		{g.Target, node, transferring, after(s.Nodes)},
		{g.Target, controller, standing(s.Namespace), after(s.Controllers)},
	}
	struck := make(chan error, len(blows))
	for _, b := range blows {
		go func() { struck <- g.strike(ctx, b) }()
	}
	_, err := g.AwaitSuccess(ctx, s.Namespace, s.Migration, 5*time.Minute)
	for range blows {
		err = errors.Join(err, <-struck)
	}
	return err
}

// sign tells whether something has begun in a cluster, and else what is seen.
type sign func(context.Context, Cluster) (begun bool, seen string, err error)

func (g *Ground) strike(ctx context.Context, b blow) error {
	err := Await(ctx, 5*time.Minute, "its part to begin", func(ctx context.Context) (bool, string, error) { return b.when(ctx, b.cluster) })
	if err == nil {
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(b.after):
			err = g.Kill(ctx, b.cluster, b.daemon)
		}
	}
	if err != nil {
		return fmt.Errorf("kill %s of cluster %s: %w", b.daemon, b.cluster.Name, err)
	}
	return nil
}

// admitted is the sign that the Migration has told its volumes.
func admitted(namespace, name string) sign {
	return func(ctx context.Context, c Cluster) (bool, string, error) {
		m, err := Get[api.Migration](ctx, c, "-n", namespace, "migrations.godwit.io", name)
		return len(m.Status.Volumes) > 0, string(m.Status.Stage), err
	}
}

// transferring is the sign that a transfer of a volume of the namespace is in
// one of the phases.
func transferring(namespace string, phases ...api.TransferPhase) sign {
	return func(ctx context.Context, c Cluster) (bool, string, error) {
		all, err := Transfers(ctx, c, namespace)
		in := slices.ContainsFunc(all, func(t api.VolumeTransfer) bool { return slices.Contains(phases, t.Status.Phase) })
		return in, fmt.Sprint(len(all), " transfers"), err
	}
}

// standing is the sign that the namespace has a standby.
func standing(namespace string) sign {
	return func(ctx context.Context, c Cluster) (bool, string, error) {
		all, err := Standbies(ctx, c, namespace)
		return len(all) > 0, fmt.Sprint(len(all), " standbies"), err
	}
}

// Transfers are the cluster's transfers of volumes of the source's namespace.
func Transfers(ctx context.Context, c Cluster, namespace string) ([]api.VolumeTransfer, error) {
	l, err := Get[api.VolumeTransferList](ctx, c, "-n", Namespace, "volumetransfers.godwit.io")
	return slices.DeleteFunc(l.Items, func(t api.VolumeTransfer) bool { return t.Spec.Volume.Namespace != namespace }), err
}

// Standbies are the cluster's standbies of applications of the source's namespace.
func Standbies(ctx context.Context, c Cluster, namespace string) ([]api.Standby, error) {
	l, err := Get[api.StandbyList](ctx, c, "-n", Namespace, "standbies.godwit.io")
	return slices.DeleteFunc(l.Items, func(s api.Standby) bool { return !slices.Contains(s.Spec.Namespaces, namespace) }), err
}
