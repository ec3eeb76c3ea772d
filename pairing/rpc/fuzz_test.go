package rpc_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/pairing/pairingtest"
	"github.com/godwit-io/godwit/pairing/rpc"
	godwitv1 "github.com/godwit-io/godwit/proto/godwit/v1"
)

// Whatever bytes a stranger sends, he gets neither a pair nor a certificate.
func FuzzStrangers(f *testing.F) {
	authority, err := pairing.NewAuthority("target-id", time.Now())
	if err != nil {
		f.Fatal(err)
	}
	grants, peers := &pairingtest.Grants{}, &pairingtest.Peers{}
	server := rpc.NewServer(rpc.Config{
		Issuer:       &pairing.Issuer{Grants: grants, Peers: peers, Ring: pairing.NewRing(authority), Now: time.Now, Random: rand.Reader},
		StorageCheck: func(context.Context, pairing.Peer) error { return nil }, Log: slog.New(slog.DiscardHandler),
	})
	token, err := pairing.Mint(f.Context(), grants, pairing.MintRequest{
		Scope: pairing.Scope{Namespaces: []string{"cms"}}, Endpoint: "h:1", ClusterID: "target-id", CAFingerprint: authority.Fingerprint(),
	}, time.Now(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	seed := func(m proto.Message) {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	seed(&godwitv1.RedeemRequest{TokenId: token.ID, Secret: make([]byte, 32), ClusterId: "c", Namespace: "cms", SealingKey: make([]byte, 32)})
	seed(&godwitv1.RecoverRequest{Certificate: authority.Certificate(), CertificateRequest: []byte{0x30, 0x03}})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var redeem godwitv1.RedeemRequest
		if proto.Unmarshal(raw, &redeem) == nil {
			if answer, err := server.Redeem(t.Context(), &redeem); err == nil {
				t.Errorf("redeemed: %v", answer.GetPairId())
			}
		}
		var recovery godwitv1.RecoverRequest
		if proto.Unmarshal(raw, &recovery) == nil {
			if _, err := server.Recover(t.Context(), &recovery); err == nil {
				t.Error("recovered")
			}
		}
	})
}
