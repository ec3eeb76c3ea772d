package kopiastore

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/godwit-io/godwit/snapshot"
)

// roleTimeout is how long the machine's own metadata service may take to answer.
const roleTimeout = 5 * time.Second

// errRole says that there are no keys to be had.
var errRole = errors.New("no keys came of this machine's role")

// role is where keys come from that change by themselves. It tells its own failures
// from the store's.
type role struct{ credentials.IAM }

// RetrieveWithCredContext is credentials.Provider's.
func (r *role) RetrieveWithCredContext(c *credentials.CredContext) (credentials.Value, error) {
	v, err := r.IAM.RetrieveWithCredContext(c)
	if err != nil {
		return v, fmt.Errorf("%w: %w", errRole, err)
	}
	return v, nil
}

// keysOf are the keys that a request is signed by.
func keysOf(l snapshot.Location) *credentials.Credentials {
	if !l.Role {
		return credentials.NewStaticV4(l.AccessKeyID, l.SecretAccessKey.Reveal(), "")
	}
	return credentials.New(&role{credentials.IAM{Region: l.Region, Client: &http.Client{Timeout: roleTimeout}}})
}

func checkKeys(l snapshot.Location) error {
	switch {
	case l.Role && (l.AccessKeyID != "" || l.SecretAccessKey != ""):
		return errors.New("the keys are those of the machine's role, and others are given: leave one out")
	case !l.Role && (l.AccessKeyID == "" || l.SecretAccessKey == ""):
		return errors.New("the access key or its secret is empty: check the Secret")
	}
	return nil
}
