package snapshot

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrSignature says that a recovery point was not signed by the expected key.
var ErrSignature = errors.New("signature does not match")

// RecoveryPoint is the record of one round: what another cluster needs to
// bring the application up from the repository alone.
type RecoveryPoint struct {
	// App names the application within the pair: namespace/name of the object
	// that made the round.
	App string `json:"app"`
	// Round is unique within App and sorts by time.
	Round string `json:"round"`
	// Cluster is the id of the cluster that made it.
	Cluster string `json:"cluster"`
	// Pair is the id of the pair that it was made for, since several may share a
	// repository; empty in records of older versions.
	Pair string `json:"pair,omitempty"`
	// Epoch grows with each activation of the application.
	Epoch int64 `json:"epoch"`
	// Sealed is when the round was complete.
	Sealed time.Time `json:"sealed"`
	// Images are the volumes of the round.
	Images []Image `json:"images"`
	// ObjectsSHA256 is the hex digest of the round's objects.
	ObjectsSHA256 string `json:"objectsSHA256"`
}

// SealedRound is a recovery point with its signature and its objects.
type SealedRound struct {
	// Statement is the JSON of a RecoveryPoint, as it was signed.
	Statement json.RawMessage
	// Signature is Ed25519 over Statement.
	Signature []byte
	// Objects is a YAML stream; nil where only the list of rounds was asked for.
	Objects []byte
}

// Seal signs p over its objects, filling in their digest.
func Seal(p RecoveryPoint, objects []byte, key ed25519.PrivateKey) (SealedRound, error) {
	p.ObjectsSHA256 = digest(objects)
	statement, err := json.Marshal(p)
	if err != nil {
		return SealedRound{}, fmt.Errorf("seal round %s of %s: %w", p.Round, p.App, err)
	}
	return SealedRound{Statement: statement, Signature: ed25519.Sign(key, statement), Objects: objects}, nil
}

// Verifier knows whose statements count.
type Verifier interface {
	// Verify reports whether the signature is one over the statement that counts.
	Verify(statement, signature []byte) bool
}

// SealingKey is a Verifier that takes the signatures of one key.
type SealingKey ed25519.PublicKey

// Verify is Verifier's.
func (k SealingKey) Verify(statement, signature []byte) bool {
	return len(k) == ed25519.PublicKeySize && ed25519.Verify(ed25519.PublicKey(k), statement, signature)
}

// Read checks the signature and the objects' digest and returns the recovery
// point. A round listed without its objects has only its signature checked.
func (s SealedRound) Read(by Verifier) (RecoveryPoint, error) {
	var p RecoveryPoint
	if !by.Verify(s.Statement, s.Signature) {
		return p, fmt.Errorf("recovery point: %w: it was not sealed by the paired cluster; do not use it", ErrSignature)
	}
	if err := json.Unmarshal(s.Statement, &p); err != nil {
		return p, fmt.Errorf("recovery point: %w", err)
	}
	if s.Objects != nil && digest(s.Objects) != p.ObjectsSHA256 {
		return p, fmt.Errorf("objects of round %s of %s: %w", p.Round, p.App, ErrCorrupt)
	}
	return p, nil
}

// Says is the cluster that claims to have sealed it and the pair that it claims to be
// for, unchecked: to tell apart whose key is to be asked for.
func (s SealedRound) Says() (cluster, pair string) {
	var p RecoveryPoint
	if json.Unmarshal(s.Statement, &p) != nil {
		return "", ""
	}
	return p.Cluster, p.Pair
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
