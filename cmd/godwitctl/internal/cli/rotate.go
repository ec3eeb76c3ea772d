package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/secretstore"
)

// rotatePatience is how long a rotation may take before the command stops waiting.
const rotatePatience = time.Minute

func newRotate(s *session) *cobra.Command {
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Replace keys and passwords",
		Args:  cobra.ArbitraryArgs,
		RunE:  group("what to rotate", "clusterpair, password, sealingkey or authority"),
	}
	rotate.AddCommand(newRotateAuthority(s),
		s.newRotateOf(rotation{word: api.RotateCertificate, done: "a new key and certificate"}, &cobra.Command{
			Use:     "clusterpair NAME",
			Aliases: []string{"clusterpairs", "cp"},
			Short:   "Give a pair a new key and certificate; the old ones are refused from then on",
		}),
		s.newRotateOf(rotation{word: api.RotatePassword, done: "a new password of its repository"}, &cobra.Command{
			Use:     "password CLUSTERPAIR",
			Aliases: []string{"passwords"},
			Short:   "Give the repository of a pair a new password, on both clusters",
			Long: `Give the repository of a pair a new password, on both clusters.
Transfers go on meanwhile, and whatever ends it in between, it goes on there.

A password opens the keys of a repository, and those stay: whoever had the old
password and reads the bucket can still find them. Where both were stolen, make
a new pair, and with it a new repository.`,
		}),
		s.newRotateOf(rotation{word: api.RotateSealingKey, done: "a new key that seals its recovery points"}, &cobra.Command{
			Use:     "sealingkey CLUSTERPAIR",
			Aliases: []string{"sealingkeys", "sealing-key"},
			Short:   "Seal the recovery points of a pair by a new key; what the old one signs from then on is refused",
		}))
	return rotate
}

// rotation is one thing of a pair that is replaced.
type rotation struct{ word, done string }

func (s *session) newRotateOf(r rotation, cmd *cobra.Command) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, err := exactlyOne("clusterpair", args)
		if err != nil {
			return err
		}
		return s.rotateOf(cmd.Context(), r, name)
	}
	return cmd
}

func (s *session) rotateOf(ctx context.Context, r rotation, name string) error {
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	var key client.ObjectKey
	// Whoever asks for another replacement at the same time must find both asked for: a
	// word that is gone says that it was made.
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() (err error) {
		key, err = s.askForRotation(ctx, c, r, namespace, name)
		return err
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, rotatePatience)
	defer cancel()
	return s.awaitRotation(ctx, c, r, key)
}

// askForRotation adds the word to the annotation of the pair.
func (s *session) askForRotation(ctx context.Context, c client.Client, r rotation, namespace, name string) (client.ObjectKey, error) {
	found, err := s.named(ctx, c, clusterPairKind(), namespace, []string{name})
	if err != nil {
		return client.ObjectKey{}, err
	}
	pair, ok := found[0].(*api.ClusterPair)
	if !ok || pair.Labels[api.LabelDirection] == api.DirectionIncoming {
		return client.ObjectKey{}, fmt.Errorf("ClusterPair %s stands for another cluster's pair to this one: rotate it there, or delete it here to revoke it", name)
	}
	before := pair.DeepCopy()
	words, err := api.Rotations(pair.Annotations[api.AnnotationRotate])
	if err != nil {
		return client.ObjectKey{}, fmt.Errorf("ClusterPair %s: %w", name, err)
	}
	if pair.Annotations == nil {
		pair.Annotations = map[string]string{}
	}
	pair.Annotations[api.AnnotationRotate] = strings.Join(append(words, r.word), ",")
	if err := c.Patch(ctx, pair, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return client.ObjectKey{}, s.fail("ask for "+r.done+" of ClusterPair "+name, err)
	}
	return client.ObjectKeyFromObject(pair), nil
}

// awaitRotation follows the object until its controller has taken the request off it.
func (s *session) awaitRotation(ctx context.Context, c client.WithWatch, r rotation, key client.ObjectKey) error {
	watch, err := c.Watch(ctx, &api.ClusterPairList{}, client.InNamespace(key.Namespace), client.MatchingFields{"metadata.name": key.Name})
	if err != nil {
		return s.fail("watch ClusterPair "+key.Name, err)
	}
	defer watch.Stop()
	last := "its controller has not answered"
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("ClusterPair %s does not have %s yet: %s: the request stands; look again with: %s get clusterpair %s -o wide", key.Name, r.done, last, s.program, key.Name)
		case event, open := <-watch.ResultChan():
			if !open {
				return errors.New("the API server ended the watch: look at the pair with get clusterpair -o wide")
			}
			pair, ok := event.Object.(*api.ClusterPair)
			if !ok {
				continue
			}
			value, asked := pair.Annotations[api.AnnotationRotate]
			words, err := api.Rotations(value)
			if err == nil && (!asked || !slices.Contains(words, r.word)) {
				return s.out("ClusterPair %s has %s", key.Name, r.done)
			}
			for _, kind := range []string{api.ConditionReady, api.ConditionRotating} {
				if c := meta.FindStatusCondition(pair.Status.Conditions, kind); c != nil && c.Reason == "RotationFailed" {
					last = c.Message
				}
			}
		}
	}
}

func newRotateAuthority(s *session) *cobra.Command {
	var overlap time.Duration
	cmd := &cobra.Command{
		Use:   "authority",
		Short: "Replace the authority that signs the certificates of pairs to this cluster",
		Long: `Replace the authority that signs the certificates of pairs to this cluster.
Pairs learn of the new one by themselves. The old one is honoured until the
overlap is over, for sources that are away. Tokens that are not used yet are void.`,
		Args: noNames,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			if _, err := s.clusterInfo(cmd.Context(), c); err != nil {
				return err
			}
			store := secretstore.New(c, s.home)
			ring, err := store.RotateAuthority(cmd.Context(), time.Now(), overlap)
			if err != nil {
				return s.fail("replace the pairing authority", err)
			}
			if _, err := pairing.VoidOpen(cmd.Context(), store.Grants()); err != nil {
				return s.fail("void open tokens", err)
			}
			return s.out("The pairing authority is %s now", ring.Current().Fingerprint())
		},
	}
	cmd.Flags().DurationVar(&overlap, "overlap", pairing.DefaultOverlap, "How long the old authority is honoured")
	return cmd
}

func newReset(s *session) *cobra.Command {
	reset := &cobra.Command{
		Use:   "reset",
		Short: "Take back what was given out",
		Args:  cobra.ArbitraryArgs,
		RunE:  group("what to reset", "tokens"),
	}
	reset.AddCommand(&cobra.Command{
		Use:     "tokens",
		Aliases: []string{"token"},
		Short:   "Void every token of this cluster that is not used yet",
		Args:    noNames,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			voided, err := pairing.VoidOpen(cmd.Context(), secretstore.New(c, s.home).Grants())
			if err != nil {
				return s.fail("void open tokens", err)
			}
			return s.out("%d open tokens are void", voided)
		},
	})
	return reset
}

func newGetTokens(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "tokens",
		Aliases: []string{"token"},
		Short:   "Show which tokens were given out, with -n those for that namespace; never their secrets",
		Args:    noNames,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			grants, err := secretstore.New(c, s.home).Grants().List(cmd.Context())
			if err != nil {
				return s.fail("list tokens", err)
			}
			if only := *s.config.Namespace; only != "" {
				grants = slices.DeleteFunc(grants, func(g pairing.Grant) bool { return g.Scope.Covers(only) != nil })
			}
			return s.printTokens(grants, time.Now())
		},
	}
}

func (s *session) printTokens(grants []pairing.Grant, now time.Time) error {
	if len(grants) == 0 {
		return s.out("No resources found.")
	}
	lines := [][]string{{"TOKEN", "COVERS", "STATE", "EXPIRES", "USED-BY"}}
	for _, g := range grants {
		state, by := "Open", ""
		switch {
		case g.Use != nil:
			state, by = "Used", g.Use.ClusterName
		case !now.Before(g.Expires):
			state = "Expired"
		}
		lines = append(lines, []string{g.ID, g.Scope.String(), state, g.Expires.UTC().Format(time.RFC822), by})
	}
	return s.columns(lines)
}
