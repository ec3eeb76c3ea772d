package secretstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/pairingtest"
	"github.com/godwit-io/godwit/pairing/secretstore"
)

const namespace = "godwit-system"

func TestStoresOnAFakeClient(t *testing.T) {
	contracts(t, func(*testing.T) *secretstore.Store {
		return secretstore.New(fake.NewClientBuilder().Build(), namespace)
	})
}

func TestStoresOnARealAPIServer(t *testing.T) {
	c := apiServer(t)
	var n atomic.Int64
	contracts(t, func(t *testing.T) *secretstore.Store {
		t.Helper()
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "store-" + strconv.FormatInt(n.Add(1), 10)}}
		if err := c.Create(t.Context(), ns); err != nil {
			t.Fatal(err)
		}
		return secretstore.New(c, ns.Name)
	})
}

func contracts(t *testing.T, open func(t *testing.T) *secretstore.Store) {
	t.Helper()
	t.Run("grants", func(t *testing.T) {
		pairingtest.GrantStore(t, func(t *testing.T) pairing.GrantStore { return open(t).Grants() })
	})
	t.Run("peers", func(t *testing.T) {
		pairingtest.PeerStore(t, func(t *testing.T) pairing.PeerStore { return open(t).Peers() })
	})
	t.Run("authority", func(t *testing.T) { authorityIsMadeOnce(t, open(t)) })
}

func authorityIsMadeOnce(t *testing.T, s *secretstore.Store) {
	if _, err := s.Ring(t.Context()); !errors.Is(err, pairing.ErrNotFound) {
		t.Fatalf("before it is made: %v, want ErrNotFound", err)
	}
	prints := make([]pairing.Fingerprint, 4)
	var wg sync.WaitGroup
	for i := range prints {
		wg.Go(func() {
			ring, err := s.EnsureRing(t.Context(), "cluster-1", time.Now())
			if err != nil {
				t.Error(err)
				return
			}
			prints[i] = ring.Current().Fingerprint()
		})
	}
	wg.Wait()
	for _, print := range prints {
		if print != prints[0] {
			t.Errorf("fingerprints differ: %s and %s", print, prints[0])
		}
	}
	if _, err := s.EnsureRing(t.Context(), "cluster-2", time.Now()); err == nil {
		t.Error("another cluster's authority was taken")
	}
	if _, err := s.RotateAuthority(t.Context(), time.Now(), time.Hour); err != nil {
		t.Fatal(err)
	}
	ring, err := s.EnsureRing(t.Context(), "cluster-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	retired := ring.Retired(time.Now())
	if ring.Current().Fingerprint() == prints[0] || len(retired) != 1 || retired[0].Fingerprint() != prints[0] {
		t.Errorf("after it was replaced: %s, and %d honoured", ring.Current().Fingerprint(), len(retired))
	}
	if left := ring.Retired(time.Now().Add(2 * time.Hour)); len(left) != 0 {
		t.Errorf("%d are honoured for longer than they should be", len(left))
	}
}

func TestSecretsAreApart(t *testing.T) {
	c := fake.NewClientBuilder().Build()
	s := secretstore.New(c, namespace)
	peer, err := s.Peers().Put(t.Context(), pairingtest.SamplePeer(pairing.Outgoing, "p1"))
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: namespace, Name: "godwit-peer-outgoing-p1"}
	if err := c.Get(t.Context(), key, secret); err != nil {
		t.Fatal(err)
	}
	if secret.Labels["godwit.io/kind"] != "peer" || secret.Labels["godwit.io/direction"] != "outgoing" {
		t.Errorf("labels %v", secret.Labels)
	}
	for _, hidden := range []pairing.Secret{peer.ClientKey, peer.SealingKey, peer.RepositoryPassword} {
		if strings.Contains(string(secret.Data["record"]), hidden.Reveal()) {
			t.Errorf("the record holds a secret: %s", secret.Data["record"])
		}
	}
	secret.Data["record"] = []byte(`{"pairID": "s3cr3t`)
	if err := c.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Peers().Get(t.Context(), pairing.Outgoing, "p1"); err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("a damaged record: %v", err)
	}
}

// apiServer starts etcd and kube-apiserver. GODWIT_KUBE_BIN is the program that
// is both, by the name it is called by, or a folder that holds the two.
func apiServer(t *testing.T) client.Client {
	t.Helper()
	program := os.Getenv("GODWIT_KUBE_BIN")
	if program == "" {
		t.Skip("needs GODWIT_KUBE_BIN: make test sets it")
	}
	info, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	folder := program
	if !info.IsDir() {
		folder = t.TempDir()
		for _, name := range []string{"etcd", "kube-apiserver", "kubectl"} {
			if err := os.Symlink(program, filepath.Join(folder, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	environment := &envtest.Environment{BinaryAssetsDirectory: folder, ControlPlaneStartTimeout: time.Minute}
	config, err := environment.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := environment.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	config.QPS, config.Burst = 200, 400
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
