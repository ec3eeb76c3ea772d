package pairing_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/godwit-io/godwit/pairing"
)

func TestTokenLine(t *testing.T) {
	c := newClusters(t)
	token := c.mint(t, cms())
	line, err := token.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(line, "godwit1.") || strings.ContainsAny(line, " \n=+/") {
		t.Errorf("not one opaque line: %q", line)
	}
	got, err := pairing.ParseToken("  " + line + "\n")
	if err != nil || got != token {
		t.Errorf("parsed %v, %v", got, err)
	}
	for i := range len(line) {
		if _, err := pairing.ParseToken(line[:i]); !errors.Is(err, pairing.ErrTokenMalformed) {
			t.Fatalf("the first %d characters: %v, want ErrTokenMalformed", i, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	token := pairing.Token{
		ID: "id", Secret: pairing.Secret(strings.Repeat("s", 32)), Endpoint: "h:1", ClusterID: "c",
		CAFingerprint: pairing.Fingerprint{1},
	}
	line, err := token.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add("godwit1.e30")
	f.Fuzz(func(t *testing.T, line string) {
		got, err := pairing.ParseToken(line)
		if err != nil {
			if !errors.Is(err, pairing.ErrTokenMalformed) {
				t.Errorf("%v is not ErrTokenMalformed", err)
			}
			return
		}
		if _, err := got.Encode(); err != nil {
			t.Errorf("parsed but not encodable: %v", err)
		}
	})
}

func TestSecretsRedactThemselves(t *testing.T) {
	c := newClusters(t)
	token := c.mint(t, cms())
	peer, err := c.joiner.Join(t.Context(), token, pairing.ClusterPair{Namespace: "cms"})
	if err != nil {
		t.Fatal(err)
	}
	line, _ := token.Encode()
	var out bytes.Buffer
	for _, v := range []any{token, &token, peer, &peer, peer.RepositoryPassword} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(body)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
	}
	for what, secret := range map[string]string{
		"line": line, "token": token.Secret.Reveal(), "key": peer.ClientKey.Reveal(),
		"seal": peer.SealingKey.Reveal(), "password": peer.RepositoryPassword.Reveal(),
	} {
		for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprintf("%d", []byte(secret))} {
			if strings.Contains(out.String(), form) {
				t.Errorf("the %s shows", what)
			}
		}
	}
}
