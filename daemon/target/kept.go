package target

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/snapshot"
)

const (
	// labelKept is on the Secrets of rounds that are kept here.
	labelKept           = "godwit.io/kept-round"
	annotationRound     = "godwit.io/round"
	annotationPart      = "godwit.io/part"
	annotationParts     = "godwit.io/parts"
	keptPart            = 900 << 10
	mostKeptParts       = 16
	keptKey             = "round.json.gz"
	reasonRoundNotKept  = "RoundNotKept"
	actionKeepRoundHere = "KeepRound"
)

// keptRound is a sealed round as a Secret holds it. The statement stands as bytes,
// since its signature is over them.
type keptRound struct {
	Statement []byte `json:"statement"`
	Signature []byte `json:"signature"`
	Objects   []byte `json:"objects"`
}

// keepRound keeps what is sealed beside the volumes on this cluster, so that a
// standby which holds the round is activated without the object store. Its seal is
// checked each time that it is read. A round that is too large for that needs the
// store, and this is told.
func (x *run) keepRound(ctx context.Context, round string, sealed snapshot.SealedRound) error {
	data, err := json.Marshal(keptRound{sealed.Statement, sealed.Signature, sealed.Objects})
	if err == nil {
		data, err = workload.Compress(data)
	}
	if err != nil {
		return fmt.Errorf("keep round %s: %w", round, err)
	}
	parts := slices.Collect(slices.Chunk(data, keptPart))
	if len(parts) > mostKeptParts {
		x.Events.Eventf(x.s, nil, corev1.EventTypeWarning, reasonRoundNotKept, actionKeepRoundHere,
			"the objects of round %s come to %d MiB and are not kept here: an activation needs the object store", round, len(data)>>20)
		return nil
	}
	for i, part := range parts {
		labels := x.labels()
		labels[labelKept] = x.s.Name
		s := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: x.Namespace, Name: fmt.Sprintf("round-%s-%s-%d", x.s.Name, keptDigest(round), i), Labels: labels,
				Annotations: map[string]string{annotationRound: round, annotationPart: strconv.Itoa(i), annotationParts: strconv.Itoa(len(parts))},
			},
			Data: map[string][]byte{keptKey: part},
		}
		if err := x.Client.Create(ctx, s); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("keep round %s: %w", round, err)
		}
	}
	return nil
}

func keptDigest(round string) string {
	sum := sha256.Sum256([]byte(round))
	return hex.EncodeToString(sum[:4])
}

// keptSecrets are the standby's; a drill reads those of the standby that it tries.
func (x *run) keptSecrets(ctx context.Context) ([]corev1.Secret, error) {
	labels := client.MatchingLabels{labelKept: x.s.Name, labelOwner: string(x.s.UID)}
	if x.s.Spec.Drill != nil {
		labels = client.MatchingLabels{labelKept: x.s.Spec.Drill.Standby, labelPair: x.s.Spec.PairID}
	}
	var list corev1.SecretList
	if err := x.Live.List(ctx, &list, client.InNamespace(x.Namespace), labels); err != nil {
		return nil, fmt.Errorf("list the rounds that Standby %s keeps: %w", x.s.Name, err)
	}
	return list.Items, nil
}

// kept gives a round that is kept here whole; snapshot.ErrNotFound for one that is
// not: the repository has it.
func (x *run) kept(ctx context.Context, round string) (snapshot.SealedRound, error) {
	var out snapshot.SealedRound
	secrets, err := x.keptSecrets(ctx)
	if err != nil {
		return out, err
	}
	parts := map[string][]byte{}
	count := ""
	for _, s := range secrets {
		if s.Annotations[annotationRound] == round {
			parts[s.Annotations[annotationPart]], count = s.Data[keptKey], s.Annotations[annotationParts]
		}
	}
	var data bytes.Buffer
	for i := range len(parts) {
		data.Write(parts[strconv.Itoa(i)])
	}
	if len(parts) == 0 || strconv.Itoa(len(parts)) != count {
		return out, fmt.Errorf("round %s is not kept here: %w", round, snapshot.ErrNotFound)
	}
	plain, err := workload.Expand(data.Bytes())
	var k keptRound
	if err == nil {
		err = json.Unmarshal(plain, &k)
	}
	if err != nil {
		// Only a copy is spoiled: the repository's is as good.
		return out, fmt.Errorf("round %s cannot be read from what is kept here: %w", round, errors.Join(snapshot.ErrNotFound, err))
	}
	return snapshot.SealedRound{Statement: k.Statement, Signature: k.Signature, Objects: k.Objects}, nil
}

// dropKept forgets the rounds that are kept here, but for some.
func (x *run) dropKept(ctx context.Context, but ...string) error {
	if x.s.Spec.Drill != nil {
		return nil // They are not the drill's.
	}
	secrets, err := x.keptSecrets(ctx)
	if err != nil {
		return err
	}
	for i := range secrets {
		if slices.Contains(but, secrets[i].Annotations[annotationRound]) {
			continue
		}
		if err := x.Client.Delete(ctx, &secrets[i]); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("forget round %s: %w", secrets[i].Annotations[annotationRound], err)
		}
	}
	return nil
}

// readSealed gives a round of the application: as it is kept here, or from the
// repository.
func (x *run) readSealed(ctx context.Context, round string) (snapshot.SealedRound, error) {
	sealed, err := x.kept(ctx, round)
	if !errors.Is(err, snapshot.ErrNotFound) {
		return sealed, err
	}
	err = x.inRepository(ctx, x.peer, func(r snapshot.Repository) (err error) {
		if sealed, err = r.Sealed(ctx, x.s.Spec.Application, round); err != nil {
			return fmt.Errorf("read round %s of %s: %w", round, x.s.Spec.Application, err)
		}
		point, err := sealed.Read(x.peer)
		if err != nil || x.s.Spec.Drill != nil {
			return err
		}
		return x.checkEpoch(ctx, r, point)
	})
	return sealed, err
}
