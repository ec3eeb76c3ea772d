package openstorage

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Issuer is one who may sign tokens, and how they are checked. Exactly one key is set.
type Issuer struct {
	Name string
	// SharedSecret checks HS256; RSA and ECDSA are PEM public keys for RS256 and ES256.
	SharedSecret, RSA, ECDSA []byte
}

// Authority admits callers by their tokens.
type Authority struct {
	keys map[string]key
	now  func() time.Time
}

type key struct {
	algorithm string
	check     any
}

// shortestSecret is as long as the hash that it feeds.
const shortestSecret = 32

// NewAuthority reads the keys of the issuers.
func NewAuthority(now func() time.Time, issuers ...Issuer) (*Authority, error) {
	a := &Authority{keys: map[string]key{}, now: now}
	for _, i := range issuers {
		k, err := i.key()
		if err != nil {
			return nil, fmt.Errorf("issuer %q: %w", i.Name, err)
		}
		if _, twice := a.keys[i.Name]; twice || i.Name == "" {
			return nil, fmt.Errorf("issuer %q: issuers need names of their own", i.Name)
		}
		a.keys[i.Name] = k
	}
	return a, nil
}

func (i Issuer) key() (key, error) {
	switch {
	case len(i.SharedSecret) > 0 && len(i.RSA)+len(i.ECDSA) == 0:
		if len(i.SharedSecret) < shortestSecret {
			return key{}, fmt.Errorf("its shared secret has %d bytes: make it at least %d", len(i.SharedSecret), shortestSecret)
		}
		return key{algorithm: "HS256", check: i.SharedSecret}, nil
	case len(i.RSA) > 0 && len(i.ECDSA) == 0:
		public, err := jwt.ParseRSAPublicKeyFromPEM(i.RSA)
		return key{algorithm: "RS256", check: public}, err
	case len(i.ECDSA) > 0 && len(i.RSA) == 0:
		public, err := jwt.ParseECPublicKeyFromPEM(i.ECDSA)
		return key{algorithm: "ES256", check: public}, err
	}
	return key{}, errors.New("it needs exactly one key: a shared secret, or an RSA or ECDSA public key")
}

// claims are those that the SDK asks for.
type claims struct {
	jwt.RegisteredClaims
	Name  string   `json:"name"`
	Email string   `json:"email"`
	Roles []string `json:"roles"`
}

// caller is who holds a token.
type caller struct {
	subject string
	roles   []string
}

// Keeps is for calls of the SDK, and for reflection and health where a token is
// shown: paired clusters have their certificates for these.
func (a *Authority) Keeps(ctx context.Context, method string) bool {
	if strings.HasPrefix(method, sdkPrefix) {
		return true
	}
	return strings.HasPrefix(method, "/grpc.") && len(metadata.ValueFromIncomingContext(ctx, "authorization")) > 0
}

const sdkPrefix = "/openstorage.api."

// guest is whoever shows no token.
const guest = "system.guest"

// Admit refuses who has no role that lets him call the method.
func (a *Authority) Admit(ctx context.Context, method string) error {
	who, err := a.identify(ctx)
	if err != nil {
		return err
	}
	for _, role := range who.roles {
		if allows(role, method) {
			return nil
		}
	}
	if who.subject == "" {
		return status.Errorf(codes.Unauthenticated, "%s needs a token: show one as \"authorization: bearer TOKEN\"", method)
	}
	return status.Errorf(codes.PermissionDenied, "the roles of %q (%q) do not allow %s", who.subject, who.roles, method)
}

func (a *Authority) identify(ctx context.Context) (caller, error) {
	shown := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(shown) == 0 {
		return caller{roles: []string{guest}}, nil
	}
	scheme, token, found := strings.Cut(shown[0], " ")
	if len(shown) > 1 || !found || !strings.EqualFold(scheme, "bearer") {
		return caller{}, status.Error(codes.Unauthenticated, "one authorization is wanted, of the form \"bearer TOKEN\"")
	}
	var c claims
	_, err := jwt.ParseWithClaims(strings.TrimSpace(token), &c, a.keyOf,
		jwt.WithTimeFunc(a.now), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithValidMethods([]string{"HS256", "RS256", "ES256"}))
	switch {
	case errors.Is(err, errIssuer), errors.Is(err, jwt.ErrTokenMalformed):
		return caller{}, status.Error(codes.Unauthenticated, "the token is malformed, or of an issuer that is not known here")
	case err != nil:
		// The parser's words may quote the token.
		return caller{}, status.Error(codes.PermissionDenied, "the token does not hold: it is expired, not valid yet, or not signed by its issuer")
	}
	if c.Subject == "" || c.Name == "" || c.Email == "" || c.IssuedAt == nil {
		return caller{}, status.Error(codes.PermissionDenied, "the token lacks one of the claims sub, name, email and iat")
	}
	return caller{subject: c.Subject, roles: c.Roles}, nil
}

var errIssuer = errors.New("unknown issuer")

// keyOf binds an issuer's key to its algorithm, so that a public key cannot be
// used as a shared secret.
func (a *Authority) keyOf(token *jwt.Token) (any, error) {
	c, ok := token.Claims.(*claims)
	if !ok {
		return nil, errIssuer
	}
	k, known := a.keys[c.Issuer]
	if !known {
		return nil, errIssuer
	}
	if token.Method.Alg() != k.algorithm {
		return nil, fmt.Errorf("issuer %q signs by %s", c.Issuer, k.algorithm)
	}
	return k.check, nil
}

// rule is a service, without its prefix and in lower case, and the calls of it.
type rule struct {
	services, calls []string
}

func rulesOf(role string) []rule {
	switch role {
	case "system.admin":
		return []rule{{[]string{"*"}, []string{"*"}}}
	case "system.view":
		return []rule{
			{[]string{"*"}, []string{"enumerate*", "inspect*", "stats", "status", "validate", "capacityusage", "watch"}},
			{[]string{"identity", reflection}, []string{"*"}},
		}
	case "system.user":
		return []rule{
			{[]string{"credentials", "migrate"}, []string{"*"}},
			{[]string{"cluster", "node"}, []string{"inspect*", "enumerate*"}},
			{[]string{"identity", reflection}, []string{"*"}},
		}
	case guest:
		return []rule{{[]string{"identity"}, []string{"*"}}}
	}
	return nil
}

// reflection stands for what is served beside the SDK: reflection and health.
const reflection = "grpc"

func allows(role, method string) bool {
	service, call := reflection, strings.ToLower(path.Base(method))
	if own, ok := strings.CutPrefix(path.Dir(method), "/openstorage.api.OpenStorage"); ok {
		service = strings.ToLower(own)
	}
	for _, r := range rulesOf(role) {
		if matches(r.services, service) && matches(r.calls, call) {
			return true
		}
	}
	return false
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, open := strings.CutSuffix(pattern, "*")
		return pattern == name || open && strings.HasPrefix(name, prefix)
	})
}
