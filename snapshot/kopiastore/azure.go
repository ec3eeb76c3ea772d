package kopiastore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kopia/kopia/repo/blob"
	"github.com/kopia/kopia/repo/blob/azure"

	"github.com/godwit-io/godwit/snapshot"
)

// googleEndpoint speaks S3 with the keys that Google calls HMAC keys.
const googleEndpoint = "storage.googleapis.com"

// normal gives a location by which storage can be opened: Google's is a store
// that speaks S3.
func normal(l snapshot.Location) snapshot.Location {
	if l.Type == snapshot.GCS && l.ServiceAccount == "" {
		l.Type = snapshot.S3
		l.Endpoint, l.Region = orDefault(l.Endpoint, googleEndpoint), orDefault(l.Region, "auto")
	}
	return l
}

// newAzure opens a container of Azure's blob storage by kopia's own client,
// which repeats and pauses as the store asks.
func newAzure(ctx context.Context, l snapshot.Location) (blob.Storage, error) {
	return azure.New(ctx, &azure.Options{
		Container: l.Bucket, Prefix: l.Prefix, StorageDomain: l.Endpoint, DoNotUseTLS: l.DisableTLS,
		StorageAccount: l.AccessKeyID, StorageKey: l.SecretAccessKey.Reveal(),
		TenantID: l.Application.TenantID, ClientID: l.Application.ClientID, ClientSecret: l.Application.ClientSecret.Reveal(),
	}, false)
}

func checkAzure(l snapshot.Location) error {
	switch {
	case l.Bucket == "":
		return errors.New("the location names no container: set it as bucket")
	case l.AccessKeyID == "":
		return errors.New("the storage account is empty: check the Secret")
	case len(l.CABundle) > 0 || l.SkipVerify:
		return errors.New("a CA bundle, or a certificate that is not checked, is not served for Azure: leave them out")
	case l.Application != (snapshot.Application{}):
		return checkApplication(l)
	case l.SecretAccessKey == "":
		return errors.New("the storage account's key is empty: check the Secret")
	}
	return nil
}

func checkApplication(l snapshot.Location) error {
	a := l.Application
	switch {
	case a.TenantID == "" || a.ClientID == "" || a.ClientSecret == "":
		return errors.New("an application of Azure's directory has a tenantID, a clientID and a clientSecret: give all three, or the account's key")
	case l.SecretAccessKey != "":
		return errors.New("the account is opened by its key or by an application: leave one out")
	case l.Endpoint != "":
		return errors.New("an application is served in Azure's public cloud only: give the account's key")
	}
	return nil
}

// explainAzure knows Azure's codes, which its errors have in their text.
func explainAzure(l snapshot.Location, err error) string {
	says := func(code string) bool { return strings.Contains(err.Error(), code) }
	switch {
	case says("AADSTS"), says("ClientSecretCredential"):
		return fmt.Sprintf("application %q was refused by directory %q: check the Secret, and the application's roles on account %q", l.Application.ClientID, l.Application.TenantID, l.AccessKeyID)
	case says("ContainerNotFound"):
		return fmt.Sprintf("container %q does not exist in account %q: create it or correct spec.location.path", l.Bucket, l.AccessKeyID)
	case says("AuthenticationFailed"), says("failed to authenticate"), says("decode account key"), says("InvalidAuthenticationInfo"):
		return fmt.Sprintf("the key of account %q was refused: check the Secret", l.AccessKeyID)
	case says("AuthorizationFailure"), says("AuthorizationPermissionMismatch"):
		return fmt.Sprintf("account %q may not be used from here: check its firewall and roles", l.AccessKeyID)
	case says("no such host"):
		return fmt.Sprintf("storage account %q is not known: correct it, or the cluster's DNS", l.AccessKeyID)
	case says("connection refused"):
		return fmt.Sprintf("account %q refuses connections: correct the endpoint", l.AccessKeyID)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("account %q does not answer in time: check routes and network policies", l.AccessKeyID)
	}
	return ""
}

// reachBlobs lists, which fails soon where the container or bucket is not there.
func reachBlobs(ctx context.Context, l snapshot.Location) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	st, err := newStorage(ctx, l, false)
	if err != nil {
		return err
	}
	return st.Close(ctx)
}

// smallBlob is blob.Bytes.
type smallBlob []byte

// WriteTo writes it.
func (b smallBlob) WriteTo(w io.Writer) (int64, error) { return bytes.NewReader(b).WriteTo(w) }

// Length is in bytes.
func (b smallBlob) Length() int { return len(b) }

// Reader reads it.
func (b smallBlob) Reader() io.ReadSeekCloser { return smallReader{bytes.NewReader(b)} }

type smallReader struct{ *bytes.Reader }

// Close does nothing.
func (smallReader) Close() error { return nil }

// probeBlobs probes a store by kopia's client of it.
func probeBlobs(ctx context.Context, l snapshot.Location) (traits snapshot.StoreTraits, err error) {
	st, err := newStorage(ctx, l, false)
	if err != nil {
		return traits, err
	}
	defer func() { err = errors.Join(err, st.Close(ctx)) }()
	name, content, err := probeObject()
	if err != nil {
		return traits, err
	}
	var written time.Time
	if err := st.PutBlob(ctx, blob.ID(name), smallBlob(content), blob.PutOptions{GetModTime: &written}); err != nil {
		return traits, fmt.Errorf("write %s: %w", name, err)
	}
	var got buffer
	err = st.GetBlob(ctx, blob.ID(name), 0, -1, &got)
	if err == nil && !bytes.Equal(got.Bytes(), content) {
		err = fmt.Errorf("the store returned other bytes than it was given: %w", snapshot.ErrCorrupt)
	}
	if removed := st.DeleteBlob(ctx, blob.ID(name)); removed != nil {
		err = errors.Join(err, fmt.Errorf("delete %s: %w", name, removed))
	}
	if err != nil {
		return traits, err
	}
	return traits, checkSkew(l, time.Until(written))
}
