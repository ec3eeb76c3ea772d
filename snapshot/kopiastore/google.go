package kopiastore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/gcs"

	"github.com/godwit-io/godwit/snapshot"
)

// newGoogle opens a bucket of Google's by kopia's own client and a service account's
// key.
func newGoogle(ctx context.Context, l snapshot.Location) (blob.Storage, error) {
	return gcs.New(ctx, &gcs.Options{
		BucketName: l.Bucket, Prefix: l.Prefix, ServiceAccountCredentialJSON: json.RawMessage(l.ServiceAccount.Reveal()),
	}, false)
}

// serviceAccount is what has to be in a service account's key.
type serviceAccount struct {
	Type     string `json:"type"`
	Email    string `json:"client_email"`
	Key      string `json:"private_key"`
	TokenURI string `json:"token_uri"`
	Universe string `json:"universe_domain"`
}

// checkGoogle lets nothing through but a service account's key. Google's client takes
// other credentials in the same form, which have it read files, run programs and send
// what it has to any address.
func checkGoogle(l snapshot.Location) error {
	var a serviceAccount
	switch err := json.Unmarshal([]byte(l.ServiceAccount.Reveal()), &a); {
	case err != nil:
		// The parser's words may quote the key.
		return errors.New("the service account's key is no JSON: check the Secret")
	case a.Type != "service_account":
		return fmt.Errorf("the credential is of type %q: only the key of a service account is served", clip(a.Type))
	case a.Email == "" || !strings.Contains(a.Key, "PRIVATE KEY"):
		return errors.New("the service account's key has no client_email or no private_key: check the Secret")
	case !slices.Contains([]string{"https://oauth2.googleapis.com/token", "https://accounts.google.com/o/oauth2/token"}, a.TokenURI):
		return fmt.Errorf("the service account's key has token_uri %q: it is https://oauth2.googleapis.com/token", clip(a.TokenURI))
	case a.Universe != "" && a.Universe != "googleapis.com":
		return fmt.Errorf("the service account's key is of universe %q: only googleapis.com is served", clip(a.Universe))
	case l.Bucket == "":
		return errors.New("the location names no bucket")
	case len(l.CABundle) > 0 || l.SkipVerify || l.DisableTLS || l.Endpoint != "":
		return errors.New("an endpoint, a CA bundle or less than TLS is not served for Google: leave them out")
	}
	return nil
}

func clip(s string) string { return s[:min(len(s), 64)] }

// explainGoogle knows Google's answers, which its errors have in their text.
func explainGoogle(l snapshot.Location, err error) string {
	says := func(code string) bool { return strings.Contains(err.Error(), code) }
	switch {
	case says("bucket doesn't exist"), says("Error 404"), says("bucket does not exist"):
		return fmt.Sprintf("bucket %q does not exist: create it or correct spec.location.path", l.Bucket)
	case says("invalid_grant"), says("invalid_client"), says("cannot fetch token"), says("private key"):
		return "the service account's key was refused by Google: check the Secret, and the clock"
	case says("Error 401"), says("Error 403"):
		return fmt.Sprintf("the service account may not use bucket %q: grant it roles/storage.objectAdmin on it", l.Bucket)
	case says("no such host"), says("connection refused"):
		return "Google's cloud storage cannot be reached from here: check DNS, routes and network policies"
	case errors.Is(err, context.DeadlineExceeded):
		return "Google's cloud storage does not answer in time: check routes and network policies"
	}
	return ""
}
