package kopiastore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/kopia/kopia/repo"
	"github.com/kopia/kopia/repo/blob"
	"github.com/minio/minio-go/v7"

	"github.com/godwit-io/godwit/snapshot"
)

// errNoRepository says that the place is reached and holds no repository.
var errNoRepository = errors.New("there is no repository yet")

// errForeign says that what is there is not for this program to read.
var errForeign = errors.New("what is there was made by a newer or another program: upgrade Godwit, or use another bucket, prefix or folder")

// errSkew says that two clocks are too far apart.
var errSkew = errors.New("clocks differ")

// explain puts what an operator can do in front of what a library said.
func explain(l snapshot.Location, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if words := explanation(l, err); words != "" {
		return fmt.Errorf("%s (%w)", words, err)
	}
	return err
}

func explanation(l snapshot.Location, err error) string {
	switch {
	case errors.Is(err, repo.ErrInvalidPassword):
		return "the repository password is wrong: it must be the one that the repository was made with; check the Secret"
	case halfway(err):
		return errHalfway.Error()
	case strings.Contains(err.Error(), "can't handle repositories created using version"): // kopia has no value for it
		return errForeign.Error()
	case errors.Is(err, blob.ErrInvalidCredentials):
		return refused(l, "InvalidAccessKeyId")
	case l.Type == snapshot.Filesystem:
		return explainFile(l, err)
	case l.Type == snapshot.Azure:
		return explainAzure(l, err)
	case l.Type == snapshot.GCS:
		return explainGoogle(l, err)
	case errors.Is(err, errRole):
		return errRole.Error() + ": give a role that may use the bucket to the node, or to Godwit's service account"
	}
	if words := explainCertificate(l, err); words != "" {
		return words
	}
	var answer minio.ErrorResponse
	if errors.As(err, &answer) {
		return explainAnswer(l, answer)
	}
	return explainNetwork(l, err)
}

func refused(l snapshot.Location, code string) string {
	return fmt.Sprintf("the keys were refused by %s (%s): check the Secret", l.Endpoint, code)
}

func explainFile(l snapshot.Location, err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Sprintf("folder %s does not exist: create it or correct spec.location.path", l.Path)
	case errors.Is(err, os.ErrPermission):
		return fmt.Sprintf("folder %s may not be written: correct its owner or mode", l.Path)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Sprintf("folder %s has no space left: make room", l.Path)
	}
	return ""
}

// explainCertificate goes before the rest, since a refused certificate also
// shows as a failed request.
func explainCertificate(l snapshot.Location, err error) string {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &authority):
		if len(l.CABundle) == 0 {
			return l.Endpoint + "'s certificate is not signed by a CA that this machine knows: put its CA into the location's CA bundle"
		}
		return l.Endpoint + "'s certificate is not signed by the CA bundle: put the CA that signed it there"
	case errors.As(err, &host):
		return fmt.Sprintf("%s's certificate is for another name: use an endpoint that it names", l.Endpoint)
	case errors.As(err, &invalid):
		return fmt.Sprintf("%s's certificate is not valid: renew it, or correct the clock", l.Endpoint)
	case errors.As(err, &verification):
		return fmt.Sprintf("%s's certificate was not accepted: check it and the CA bundle", l.Endpoint)
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Sprintf("%s speaks plain HTTP: use its TLS port, or disable TLS in the location", l.Endpoint)
	case strings.Contains(err.Error(), "cannot parse provided CA"):
		return "the CA bundle is not PEM: correct it in the location"
	}
	return ""
}

func explainAnswer(l snapshot.Location, answer minio.ErrorResponse) string {
	switch answer.Code {
	case minio.NoSuchBucket:
		return missingBucket(l)
	case "InvalidAccessKeyId", "XAdminUserNotFound", "SignatureDoesNotMatch", "InvalidTokenId", "ExpiredToken", "InvalidToken":
		return refused(l, answer.Code)
	case minio.AccessDenied, "AllAccessDisabled", "AccountProblem":
		return fmt.Sprintf("%s does not let these keys use bucket %q: grant read, write, list and delete under %q, or check the Secret",
			l.Endpoint, l.Bucket, l.Prefix)
	case "RequestTimeTooSkewed":
		return fmt.Sprintf("the clocks here and at %s are too far apart: correct the wrong one", l.Endpoint)
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException":
		return fmt.Sprintf("bucket %q at %s is in another region than %q: correct the location's region", l.Bucket, l.Endpoint, l.Region)
	case "XAmzContentSHA256Mismatch", "BadDigest":
		return fmt.Sprintf("bytes changed on their way to %s: look for a faulty proxy or network", l.Endpoint)
	case "QuotaExceeded", "XMinioStorageFull", "InsufficientStorage":
		return fmt.Sprintf("%s has no space left for bucket %q: make room or raise the quota", l.Endpoint, l.Bucket)
	case "SlowDown", "ServiceUnavailable", "InternalError":
		return fmt.Sprintf("%s is overloaded or failing (%s): try again later", l.Endpoint, answer.Code)
	}
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return refused(l, answer.Code)
	case http.StatusBadRequest:
		if l.DisableTLS {
			return wantsTLS(l)
		}
	}
	return ""
}

func wantsTLS(l snapshot.Location) string {
	return fmt.Sprintf("%s did not understand plain HTTP: it may want TLS, so do not disable that in the location", l.Endpoint)
}

func missingBucket(l snapshot.Location) string {
	return fmt.Sprintf("bucket %q does not exist at %s: create it or correct spec.location.path", l.Bucket, l.Endpoint)
}

func explainNetwork(l snapshot.Location, err error) string {
	var name *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &name):
		return fmt.Sprintf("the name of %s cannot be resolved: correct the endpoint, or the cluster's DNS", l.Endpoint)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("%s refuses connections: is the object store running, and is the port right?", l.Endpoint)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fmt.Sprintf("%s cannot be reached from here: check routes and network policies", l.Endpoint)
	case l.DisableTLS && (errors.Is(err, io.EOF) || strings.Contains(err.Error(), "Connection closed by foreign host")):
		return wantsTLS(l)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("%s does not answer in time: check the endpoint, routes and network policies", l.Endpoint)
	}
	return ""
}
