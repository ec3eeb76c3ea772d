package controller

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
)

// rotateSecrets replaces the repository's password and the sealing key where the
// annotation asks for that, and ends what was begun before. The pair goes on all
// the while; what keeps a replacement from its end is a condition of its own.
func (r *ClusterPairs) rotateSecrets(ctx context.Context, p *api.ClusterPair, pairID string) error {
	// What was checked before may have stored the peer anew.
	peer, err := r.Peers.Get(ctx, pairing.Outgoing, pairID)
	if err != nil {
		return fmt.Errorf("read pair %s: %w", pairID, err)
	}
	words, err := api.Rotations(p.Annotations[api.AnnotationRotate])
	if err != nil {
		r.rotating(p, err)
		return nil
	}
	password := slices.Contains(words, api.RotatePassword) || peer.NextRepositoryPassword != ""
	sealing := slices.Contains(words, api.RotateSealingKey) || peer.NextSealingKey != ""
	if !password && !sealing {
		meta.RemoveStatusCondition(&p.Status.Conditions, api.ConditionRotating)
		return nil
	}
	if password {
		if peer, err = r.rotatePassword(ctx, p, peer); err == nil {
			err = r.noteRotated(ctx, p, api.RotatePassword, "the repository of the pair has a new password; the old one does not open it any more")
		}
	}
	if sealing && err == nil {
		if err = r.rotateSealingKey(ctx, p, peer); err == nil {
			err = r.noteRotated(ctx, p, api.RotateSealingKey, "recovery points are sealed by a new key; what the old one signs from now on is refused")
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.rotating(p, err)
	return nil
}

// rotating tells what keeps a replacement from its end.
func (r *ClusterPairs) rotating(p *api.ClusterPair, why error) {
	if why == nil {
		meta.RemoveStatusCondition(&p.Status.Conditions, api.ConditionRotating)
		return
	}
	c := metav1.Condition{
		Type: api.ConditionRotating, Status: metav1.ConditionTrue, Reason: "RotationFailed", Message: why.Error(), ObservedGeneration: p.Generation,
	}
	if meta.SetStatusCondition(&p.Status.Conditions, c) {
		r.Events.Eventf(p, nil, corev1.EventTypeWarning, c.Reason, "Rotate", "%s", c.Message)
	}
}

// rotatePassword goes through the steps that package pairing lists. Whatever ends
// it, the next call goes on there.
func (r *ClusterPairs) rotatePassword(ctx context.Context, p *api.ClusterPair, peer pairing.Peer) (pairing.Peer, error) {
	location, err := backupLocation(p)
	if err != nil {
		return peer, err
	}
	if peer, err = pairing.NextPassword(ctx, r.Peers, peer, rand.Reader); err != nil {
		return peer, err
	}
	former, err := r.Locator.ForPeer(ctx, peer, location)
	if err != nil {
		return peer, err
	}
	next := former
	next.Password = snapshot.Secret(peer.NextRepositoryPassword.Reveal())
	if peer.RepositoryPassword != peer.NextRepositoryPassword {
		if err := r.Passwords.AdmitPassword(ctx, former, next.Password); err != nil {
			return peer, err
		}
		if err := r.Exchange.ReplacePassword(ctx, peer); err != nil {
			return peer, fmt.Errorf("tell the target the new password: %w", err)
		}
		if err := r.Passwords.SettlePassword(ctx, next); err != nil {
			return peer, err
		}
	}
	// Again after a crash: the other direction may not have turned.
	if peer, err = pairing.TurnToNextPassword(ctx, r.Peers, peer); err != nil {
		return peer, err
	}
	if _, err := r.Locator.EnsureSecret(ctx, peer, location); err != nil {
		return peer, err
	}
	if err := r.Passwords.EndFormerPassword(ctx, next); err != nil {
		return peer, err
	}
	return pairing.PasswordReplaced(ctx, r.Peers, peer)
}

func (r *ClusterPairs) rotateSealingKey(ctx context.Context, p *api.ClusterPair, peer pairing.Peer) error {
	// From here on nothing is sealed, so that the list below is whole.
	peer, err := pairing.NextSealingKey(ctx, r.Peers, peer, rand.Reader)
	if err != nil {
		return err
	}
	location, err := backupLocation(p)
	if err != nil {
		return err
	}
	loc, err := r.Locator.ForPeer(ctx, peer, location)
	if err != nil {
		return err
	}
	repository, err := r.Opener.Open(ctx, loc, false)
	if err != nil {
		return err
	}
	before, err := r.sealedByPeer(ctx, repository, peer)
	if err = errors.Join(err, repository.Close(ctx)); err != nil {
		return err
	}
	change, err := peer.ChangeSealingKey(before)
	if err != nil {
		return err
	}
	if err := r.Exchange.ReplaceSealingKey(ctx, peer, change); err != nil {
		return fmt.Errorf("tell the target the new sealing key: %w", err)
	}
	_, err = pairing.TurnToNextSealingKey(ctx, r.Peers, peer, change)
	return err
}

// sealedByPeer are the recovery points that this cluster sealed for the pair.
func (r *ClusterPairs) sealedByPeer(ctx context.Context, repository snapshot.Rounds, peer pairing.Peer) ([]pairing.StatementDigest, error) {
	rounds, err := repository.Recoverable(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list the recovery points: %w", err)
	}
	var digests []pairing.StatementDigest
	for _, s := range rounds {
		if point, err := s.Read(peer); err == nil && point.Cluster == r.ClusterID {
			digests = append(digests, pairing.DigestOf(s.Statement))
		}
	}
	return digests, nil
}

// noteRotated takes one word off the annotation, and leaves what was asked meanwhile.
func (r *ClusterPairs) noteRotated(ctx context.Context, p *api.ClusterPair, word, message string) error {
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		var there api.ClusterPair
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(p), &there); err != nil {
			return err
		}
		before := there.DeepCopy()
		words, err := api.Rotations(there.Annotations[api.AnnotationRotate])
		if err != nil {
			return err
		}
		words = slices.DeleteFunc(words, func(w string) bool { return w == word })
		if len(words) == 0 {
			delete(there.Annotations, api.AnnotationRotate)
		} else {
			there.Annotations[api.AnnotationRotate] = strings.Join(words, ",")
		}
		if err := r.Client.Patch(ctx, &there, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return err
		}
		p.Annotations = there.Annotations
		return nil
	})
	if err != nil {
		return fmt.Errorf("note what was replaced of ClusterPair %s/%s: %w", p.Namespace, p.Name, err)
	}
	r.Events.Eventf(p, nil, corev1.EventTypeNormal, "Rotated", "Rotate", "%s", message)
	return nil
}

// followTwin gives a pair that shares the other direction's repository the password
// that it has now.
func (r *ClusterPairs) followTwin(ctx context.Context, peer pairing.Peer) (pairing.Peer, error) {
	if peer.MakesRepository() {
		return peer, nil
	}
	twin, err := pairing.TwinOf(ctx, r.Peers, peer)
	if errors.Is(err, pairing.ErrNotFound) {
		return peer, nil
	}
	if err == nil && twin.MakesRepository() {
		err = pairing.FollowTwin(ctx, r.Peers, twin)
	}
	if err != nil {
		return pairing.Peer{}, err
	}
	return r.Peers.Get(ctx, peer.Direction, peer.PairID)
}
