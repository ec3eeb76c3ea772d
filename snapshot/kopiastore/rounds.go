package kopiastore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/kopia/kopia/repo"
	kopia "github.com/kopia/kopia/snapshot"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	roundsPath    = "/rounds/"
	statementFile = "recovery-point.json"
	signatureFile = "signature"
	objectsFile   = "objects.yaml"
	appTag        = "tag:app"
	roundTag      = "tag:round"
)

// Seal stores a round once; the same again changes nothing.
func (r *Repository) Seal(ctx context.Context, s snapshot.SealedRound) error {
	var p snapshot.RecoveryPoint
	if err := json.Unmarshal(s.Statement, &p); err != nil {
		return fmt.Errorf("seal a round: %w", err)
	}
	if err := r.seal(ctx, p, s); err != nil {
		return fmt.Errorf("seal round %s of %s: %w", p.Round, p.App, err)
	}
	return nil
}

func (r *Repository) seal(ctx context.Context, p snapshot.RecoveryPoint, s snapshot.SealedRound) error {
	if p.App == "" || p.Round == "" || p.Cluster == "" {
		return fmt.Errorf("the recovery point names no app, round or cluster")
	}
	for _, i := range p.Images {
		if _, err := r.Image(ctx, i.ID); err != nil {
			return fmt.Errorf("volume %s: %w", i.Volume, err)
		}
	}
	src := &kopia.SourceInfo{Host: p.Cluster, UserName: userName, Path: roundsPath + p.App}
	found, err := r.list(ctx, src, map[string]string{kindTag: kindRound, appTag: p.App, roundTag: p.Round})
	if err != nil {
		return err
	}
	if len(found) > 0 {
		old, err := r.round(ctx, found[0], true)
		if err != nil {
			return err
		}
		if !bytes.Equal(old.Statement, s.Statement) || !bytes.Equal(old.Objects, s.Objects) {
			return errors.New("it is sealed already, with other content")
		}
		return nil
	}
	if err := r.saveRound(ctx, *src, p, s); err != nil {
		return explain(r.location, err)
	}
	return nil
}

func (r *Repository) saveRound(ctx context.Context, src kopia.SourceInfo, p snapshot.RecoveryPoint, s snapshot.SealedRound) (err error) {
	_, w, err := r.rep.NewDirectWriter(ctx, repo.WriteSessionOptions{Purpose: "round"})
	if err != nil {
		return err
	}
	defer func() {
		if closed := w.Close(context.WithoutCancel(ctx)); err == nil {
			err = closed
		}
	}()
	d := directory{
		source: src, taken: p.Sealed, text: fmt.Sprintf("Round %s of %s", p.Round, p.App),
		tags: map[string]string{kindTag: kindRound, appTag: p.App, roundTag: p.Round},
	}
	for name, content := range map[string][]byte{statementFile: s.Statement, signatureFile: s.Signature, objectsFile: s.Objects} {
		entry, err := writeFile(ctx, w, name, content, timestamp(p.Sealed))
		if err != nil {
			return err
		}
		d.entries = append(d.entries, entry)
		d.size += int64(len(content))
	}
	_, err = r.save(ctx, w, d, "")
	return err
}

// round reads one sealed round.
func (r *Repository) round(ctx context.Context, m *kopia.Manifest, objects bool) (snapshot.SealedRound, error) {
	var s snapshot.SealedRound
	files, err := r.files(ctx, m)
	if err != nil {
		return s, err
	}
	if s.Statement, err = r.readFile(ctx, files, statementFile); err != nil {
		return s, err
	}
	if s.Signature, err = r.readFile(ctx, files, signatureFile); err != nil {
		return s, err
	}
	if objects {
		s.Objects, err = r.readFile(ctx, files, objectsFile)
	}
	return s, err
}

// newestFirst lists manifests of rounds.
func (r *Repository) newestFirst(ctx context.Context, tags map[string]string) ([]*kopia.Manifest, error) {
	tags[kindTag] = kindRound
	found, err := r.list(ctx, nil, tags)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b *kopia.Manifest) int {
		return cmp.Or(cmp.Compare(b.StartTime, a.StartTime), cmp.Compare(b.EndTime, a.EndTime))
	})
	return found, nil
}

// Sealed returns the round of that name; where both clusters of a pair sealed
// one, the newest.
func (r *Repository) Sealed(ctx context.Context, app, round string) (snapshot.SealedRound, error) {
	found, err := r.newestFirst(ctx, map[string]string{appTag: app, roundTag: round})
	if err == nil && len(found) == 0 {
		err = snapshot.ErrNotFound
	}
	if err != nil {
		return snapshot.SealedRound{}, fmt.Errorf("round %s of %s: %w", round, app, err)
	}
	s, err := r.round(ctx, found[0], true)
	if err != nil {
		return snapshot.SealedRound{}, fmt.Errorf("round %s of %s: %w", round, app, err)
	}
	return s, nil
}

// Recoverable lists the rounds of an application, or of all, newest first.
func (r *Repository) Recoverable(ctx context.Context, app string) ([]snapshot.SealedRound, error) {
	tags := map[string]string{}
	if app != "" {
		tags[appTag] = app
	}
	found, err := r.newestFirst(ctx, tags)
	if err != nil {
		return nil, fmt.Errorf("list the rounds of %s: %w", app, err)
	}
	var rounds []snapshot.SealedRound
	for _, m := range found {
		s, err := r.round(ctx, m, false)
		if err != nil {
			return nil, fmt.Errorf("round of %s in %s: %w", app, m.ID, err)
		}
		rounds = append(rounds, s)
	}
	return rounds, nil
}

// ForgetRound removes a round from the list.
func (r *Repository) ForgetRound(ctx context.Context, p snapshot.RecoveryPoint) error {
	if p.App == "" || p.Round == "" || p.Cluster == "" {
		return fmt.Errorf("forget round %q of %q: it is not named in full", p.Round, p.App)
	}
	src := &kopia.SourceInfo{Host: p.Cluster, UserName: userName, Path: roundsPath + p.App}
	found, err := r.list(ctx, src, map[string]string{kindTag: kindRound, appTag: p.App, roundTag: p.Round})
	if err == nil && len(found) > 0 {
		err = repo.WriteSession(ctx, r.rep, repo.WriteSessionOptions{Purpose: "forget round"}, func(ctx context.Context, w repo.RepositoryWriter) error {
			for _, m := range found {
				if err := w.DeleteManifest(ctx, m.ID); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("forget round %s of %s: %w", p.Round, p.App, explain(r.location, err))
	}
	return nil
}
