package snapshot

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Errors of Raise that callers decide by.
var (
	// ErrSuperseded says that another cluster activated the application.
	ErrSuperseded = errors.New("the application was activated on another cluster")
	// ErrContended says that another cluster is at it at this very moment: ask again
	// once its patience is over.
	ErrContended = errors.New("another cluster is activating the application at this moment")
)

// claimPatience is how long a claim keeps others away that was not won. Its owner
// wins it within half of that, or makes another.
const claimPatience = 30 * time.Second

// Epoch says which cluster has the application. The zero Epoch is one that was
// never activated: the first source has it.
type Epoch struct {
	// App is the application, as in its recovery points.
	App string `json:"app"`
	// Number grows with each activation.
	Number int64 `json:"number"`
	// Cluster is the id of the cluster that was activated.
	Cluster string `json:"cluster"`
	// Won is false for a claim that others may still dispute.
	Won bool `json:"won"`
	// At is when that was, by the cluster's own clock.
	At time.Time `json:"at"`
}

// Bars is true where the epoch is another cluster's than c: what c seals is not
// the application any more.
func (e Epoch) Bars(c string) bool { return e.Number > 0 && e.Cluster != c }

// SealedEpoch is an Epoch with its signature.
type SealedEpoch struct {
	Statement json.RawMessage `json:"statement"`
	Signature []byte          `json:"signature"`
}

// Epochs keeps who activated an application. Nothing in it is ever changed.
type Epochs interface {
	// PutEpoch stores e under a name that is e's alone, and returns once every later
	// call of Epochs, by whomever, tells of it.
	PutEpoch(ctx context.Context, e Epoch, sealed SealedEpoch) error
	// Epochs lists what was put for an application, in no order.
	Epochs(ctx context.Context, app string) ([]SealedEpoch, error)
}

// EpochOf reads which cluster has the application now. What does not bear the
// signature of key is an error: it may be hiding an activation.
func EpochOf(ctx context.Context, s Epochs, app string, key ed25519.PublicKey) (Epoch, error) {
	all, err := epochsOf(ctx, s, app, key)
	if err != nil {
		return Epoch{}, err
	}
	return highest(all, func(e Epoch) bool { return e.Won }), nil
}

// RaiseRequest asks for the next epoch of an application.
type RaiseRequest struct {
	App, Cluster string
	// From is the cluster whose copy is activated: only who has that may take over
	// from it.
	From string
	Key  ed25519.PrivateKey
	Now  func() time.Time
}

// Raise makes Cluster the one that has the application, and returns its epoch. It
// may be called again until it says so. Of several clusters at most one gets it;
// the others are told by ErrSuperseded, which names the one, or by ErrContended.
//
// A store of blobs cannot compare and swap. So each puts a claim and looks whether
// it is alone; whoever is not, leaves its claim to grow old. A claim that was found
// alone is confirmed at once, or not at all: a process that was held up in between
// for half of claimPatience begins again.
func Raise(ctx context.Context, s Epochs, r RaiseRequest) (Epoch, error) {
	public, ok := r.Key.Public().(ed25519.PublicKey)
	if !ok {
		return Epoch{}, fmt.Errorf("raise the epoch of %s: the key is none", r.App)
	}
	all, err := epochsOf(ctx, s, r.App, public)
	if err != nil {
		return Epoch{}, err
	}
	began := r.Now()
	won, err := r.base(all)
	if err != nil || won.Cluster == r.Cluster {
		return won, err
	}
	mine := Epoch{App: r.App, Number: highest(all, always).Number + 1, Cluster: r.Cluster, At: began.UTC()}
	if err := put(ctx, s, mine, r.Key); err != nil {
		return Epoch{}, err
	}
	if all, err = epochsOf(ctx, s, r.App, public); err != nil {
		return Epoch{}, err
	}
	if err := r.alone(all, won, mine); err != nil {
		return Epoch{}, err
	}
	if r.Now().Sub(began) > claimPatience/2 {
		return Epoch{}, fmt.Errorf("raise the epoch of %s: %w: this took too long", r.App, ErrContended)
	}
	mine.Won = true
	return mine, put(ctx, s, mine, r.Key)
}

// base is the epoch that the next one follows, where this cluster may take it.
func (r RaiseRequest) base(all []Epoch) (Epoch, error) {
	won := highest(all, func(e Epoch) bool { return e.Won })
	if won.Bars(r.Cluster) && won.Cluster != r.From {
		return won, fmt.Errorf("%w: %s has been on cluster %s since %s (epoch %d)", ErrSuperseded, r.App, won.Cluster, won.At.Format(time.RFC3339), won.Number)
	}
	rival := highest(all, func(e Epoch) bool {
		return e.Number > won.Number && e.Cluster != r.Cluster && r.Now().Sub(e.At) < claimPatience
	})
	if rival.Number > 0 {
		return won, fmt.Errorf("%w: cluster %s claims %s", ErrContended, rival.Cluster, r.App)
	}
	return won, nil
}

// alone is true for a claim that nobody else's stands beside.
func (r RaiseRequest) alone(all []Epoch, won, mine Epoch) error {
	for _, e := range all {
		rival := e.Number >= mine.Number || e.Won && e.Number > won.Number
		if rival && e.Cluster != r.Cluster {
			return fmt.Errorf("%w: cluster %s claims %s", ErrContended, e.Cluster, r.App)
		}
	}
	return nil
}

func put(ctx context.Context, s Epochs, e Epoch, key ed25519.PrivateKey) error {
	statement, err := json.Marshal(e)
	if err == nil {
		err = s.PutEpoch(ctx, e, SealedEpoch{Statement: statement, Signature: ed25519.Sign(key, statement)})
	}
	if err != nil {
		return fmt.Errorf("put epoch %d of %s: %w", e.Number, e.App, err)
	}
	return nil
}

func epochsOf(ctx context.Context, s Epochs, app string, key ed25519.PublicKey) ([]Epoch, error) {
	sealed, err := s.Epochs(ctx, app)
	if err != nil {
		return nil, fmt.Errorf("read the epochs of %s: %w", app, err)
	}
	var all []Epoch
	for _, one := range sealed {
		var e Epoch
		if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, one.Statement, one.Signature) {
			return nil, fmt.Errorf("an epoch of %s: %w: neither cluster of the pair wrote it: find out who writes to this repository", app, ErrSignature)
		}
		if err := json.Unmarshal(one.Statement, &e); err != nil {
			return nil, fmt.Errorf("an epoch of %s: %w", app, err)
		}
		if e.App != app {
			return nil, fmt.Errorf("an epoch of %s: %w: it is of %s", app, ErrSignature, e.App)
		}
		all = append(all, e)
	}
	return all, nil
}

func always(Epoch) bool { return true }

func highest(all []Epoch, counts func(Epoch) bool) Epoch {
	var top Epoch
	for _, e := range all {
		if counts(e) && e.Number > top.Number {
			top = e
		}
	}
	return top
}
