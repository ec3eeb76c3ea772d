package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/cmd/godwitctl/internal/progress"
	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
)

// redrawEvery keeps the clock of a picture going between two changes.
const redrawEvery = 500 * time.Millisecond

// display shows a Migration as it goes on: a progress.Screen or a progress.Journal.
type display interface {
	Show(m *api.Migration, now time.Time) error
}

func (s *session) newDisplay() display {
	if _, ok := s.env.Terminal(); ok {
		return &progress.Screen{Out: s.env.Streams.Out, Size: func() progress.Size {
			size, _ := s.env.Terminal()
			return size
		}}
	}
	return &progress.Journal{Out: s.env.Streams.Out}
}

// watchMigration shows the progress of a Migration until it ends or the user does.
func (s *session) watchMigration(ctx context.Context, c client.WithWatch, key client.ObjectKey) error {
	_, err := s.awaitMigration(ctx, c, key)
	return err
}

// awaitMigration shows the progress of a Migration until it ends, and returns it.
func (s *session) awaitMigration(ctx context.Context, c client.WithWatch, key client.ObjectKey) (*api.Migration, error) {
	changes := make(chan change)
	// Ending the reading of changes is no error of theirs.
	following, stop := context.WithCancel(ctx)
	defer stop()
	group, following := errgroup.WithContext(following)
	f := &follower{
		client: c, kind: migrationKind(), notice: s.notice,
		opts: []client.ListOption{
			client.InNamespace(key.Namespace),
			client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", key.Name)},
		},
		each: func(ch change) (bool, error) {
			select {
			case changes <- ch:
				return false, nil
			case <-following.Done():
				return true, nil
			}
		},
	}
	group.Go(func() error {
		defer close(changes)
		return f.run(following)
	})
	m, err := s.showChanges(changes, key)
	stop()
	if followed := group.Wait(); followed != nil {
		return m, s.fail("watch Migration "+key.String(), followed)
	}
	if err == nil && ctx.Err() != nil && (m == nil || !progress.Final(m)) {
		if err := s.hint("\nno longer watching; Migration %s goes on. Watch it again with: %s get migration %s -n %s -w",
			key, s.program, key.Name, key.Namespace); err != nil {
			return m, err
		}
		return m, errInterrupted
	}
	return m, err
}

// showChanges shows each change, and the passing of time, until the Migration
// is final or the changes end.
func (s *session) showChanges(changes <-chan change, key client.ObjectKey) (*api.Migration, error) {
	display := s.newDisplay()
	ticker := time.NewTicker(redrawEvery)
	defer ticker.Stop()
	var m *api.Migration
	for {
		select {
		case ch, open := <-changes:
			if !open {
				return m, nil
			}
			if ch.removed {
				return m, fmt.Errorf("Migration %s was deleted while it was watched", key)
			}
			next, ok := ch.object.(*api.Migration)
			if !ok {
				return m, fmt.Errorf("watch Migration %s: got a %T", key, ch.object)
			}
			m = next
		case <-ticker.C:
		}
		if m == nil {
			continue
		}
		if err := display.Show(m, time.Now()); err != nil {
			return m, err
		}
		if progress.Final(m) {
			return m, nil
		}
	}
}

// reasonsShown keeps the error of a Migration with many failures readable.
const reasonsShown = 3

// outcome is nil for a Migration that succeeded, and else the reasons.
func outcome(m *api.Migration) error {
	if m.Status.Status == api.MigrationStatusSuccessful {
		return nil
	}
	var reasons []string
	for _, c := range m.Status.Conditions {
		if c.Type == api.ConditionReady && c.Message != "" {
			reasons = append(reasons, c.Message)
		}
	}
	for _, v := range m.Status.Volumes {
		if v.Status == api.MigrationStatusFailed {
			reasons = append(reasons, fmt.Sprintf("volume %s/%s: %s", v.Namespace, v.PersistentVolumeClaim, v.Reason))
		}
	}
	for _, r := range m.Status.Resources {
		if r.Status == api.MigrationStatusFailed {
			reasons = append(reasons, fmt.Sprintf("%s %s/%s: %s", r.Kind, r.Namespace, r.Name, r.Reason))
		}
	}
	if more := len(reasons) - reasonsShown; more > 0 {
		reasons = append(reasons[:reasonsShown], fmt.Sprintf("and %d more", more))
	}
	if len(reasons) == 0 {
		reasons = []string{"no reason is given"}
	}
	return fmt.Errorf("Migration %s/%s ended as %s: %s: see kubectl describe migrations.godwit.io %s -n %s",
		m.Namespace, m.Name, m.Status.Status, strings.Join(reasons, "; "), m.Name, m.Namespace)
}
