package pairing

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
)

const (
	tokenPrefix = "godwit1."
	secretSize  = 32
	// checksumSize is enough to tell a token that lost characters on its way
	// from one that was never ours; it is no proof of anything.
	checksumSize = 4
	maxToken     = 4096
)

// Fingerprint is the SHA-256 of an authority's public key (SubjectPublicKeyInfo).
type Fingerprint [sha256.Size]byte

// String is the fingerprint in hex.
func (f Fingerprint) String() string { return fmt.Sprintf("%x", f[:]) }

// Token is what a person carries from the target to the source. Encode is the
// only way out for its secret.
type Token struct {
	// ID names the grant, and becomes the id of the pair.
	ID string
	// Secret is 256 random bits.
	Secret Secret
	// Endpoint is the target's host:port.
	Endpoint string
	// ClusterID and ClusterName are the target's.
	ClusterID   string
	ClusterName string
	// CAFingerprint pins the target's Authority.
	CAFingerprint Fingerprint
}

// tokenForm is what is inside the line.
type tokenForm struct {
	ID          string `json:"i"`
	Secret      []byte `json:"s"`
	Endpoint    string `json:"e"`
	ClusterID   string `json:"c"`
	ClusterName string `json:"n,omitempty"`
	Fingerprint []byte `json:"f"`
}

// Encode writes the token as one line, secret included.
func (t Token) Encode() (string, error) {
	if err := t.validate(); err != nil {
		return "", err
	}
	body, err := json.Marshal(tokenForm{
		ID: t.ID, Secret: []byte(t.Secret.Reveal()), Endpoint: t.Endpoint,
		ClusterID: t.ClusterID, ClusterName: t.ClusterName, Fingerprint: t.CAFingerprint[:],
	})
	if err != nil {
		return "", fmt.Errorf("encode token %s: %w", t.ID, err)
	}
	sum := sha256.Sum256(body)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(body, sum[:checksumSize]...)), nil
}

// ParseToken reads what Encode wrote. Space around the line is ignored. Its
// errors never repeat the line.
func ParseToken(line string) (Token, error) {
	line = strings.TrimSpace(line)
	encoded, ok := strings.CutPrefix(line, tokenPrefix)
	if !ok {
		return Token{}, malformed("it does not begin with " + tokenPrefix)
	}
	if len(line) > maxToken {
		return Token{}, malformed("it is too long")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(raw) <= checksumSize {
		return Token{}, malformed("it is damaged or cut short")
	}
	body, sum := raw[:len(raw)-checksumSize], raw[len(raw)-checksumSize:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:checksumSize]) {
		return Token{}, malformed("it is damaged or cut short")
	}
	var form tokenForm
	if err := json.Unmarshal(body, &form); err != nil {
		return Token{}, malformed("its content is not readable")
	}
	return form.token()
}

func (form tokenForm) token() (Token, error) {
	t := Token{
		ID: form.ID, Secret: Secret(form.Secret), Endpoint: form.Endpoint,
		ClusterID: form.ClusterID, ClusterName: form.ClusterName,
	}
	if len(form.Fingerprint) != len(t.CAFingerprint) {
		return Token{}, malformed("it carries no fingerprint")
	}
	copy(t.CAFingerprint[:], form.Fingerprint)
	if err := t.validate(); err != nil {
		return Token{}, err
	}
	return t, nil
}

func (t Token) validate() error {
	if len(t.Secret) != secretSize {
		return malformed("it carries no secret")
	}
	if t.CAFingerprint == (Fingerprint{}) {
		return malformed("it carries no fingerprint")
	}
	if err := checkID("token id", t.ID); err != nil {
		return malformed(err.Error())
	}
	if err := checkID("cluster id", t.ClusterID); err != nil {
		return malformed(err.Error())
	}
	if err := checkClusterName(t.ClusterName); err != nil {
		return malformed(err.Error())
	}
	if err := CheckEndpoint(t.Endpoint); err != nil {
		return malformed(err.Error())
	}
	return nil
}

// CheckEndpoint says whether endpoint is a host:port that can be dialled.
func CheckEndpoint(endpoint string) error {
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil || host == "" || strings.ContainsAny(host, "/@ \t\n") {
		return fmt.Errorf("%w: %q is no host:port", ErrRequest, clip(endpoint))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%w: %q has no port between 1 and 65535", ErrRequest, clip(endpoint))
	}
	return nil
}

func malformed(why string) error {
	return fmt.Errorf("%w: %s: copy the whole line that \"godwitctl generate clusterpair\" printed on the target",
		ErrTokenMalformed, why)
}

// String names the token without its secret.
func (t Token) String() string {
	return "token " + t.ID + " for cluster " + t.ClusterID + " at " + t.Endpoint + " " + redacted
}

// GoString names the token without its secret.
func (t Token) GoString() string { return t.String() }

// Format keeps every verb from printing the secret.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue names the token without its secret.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalJSON names the token without its secret.
func (t Token) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }
