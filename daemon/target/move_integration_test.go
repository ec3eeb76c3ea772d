package target_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/daemon/migrate"
	"github.com/godwit-io/godwit/daemon/workload"
	"github.com/godwit-io/godwit/pairing"
	"github.com/godwit-io/godwit/snapshot"
)

// storageOf describes a volume as the source hands it over.
func storageOf(t *testing.T, change func(*corev1.PersistentVolumeSpec)) []byte {
	t.Helper()
	mode := corev1.PersistentVolumeFilesystem
	spec := corev1.PersistentVolumeSpec{
		Capacity:    corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, VolumeMode: &mode,
	}
	spec.NFS = &corev1.NFSVolumeSource{Server: "files.example.com", Path: "/cms"}
	if change != nil {
		change(&spec)
	}
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func handle(driver, handle string) func(*corev1.PersistentVolumeSpec) {
	return func(s *corev1.PersistentVolumeSpec) {
		s.NFS, s.CSI = nil, &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: handle}
	}
}

func handed(packed []byte) migrate.Claim {
	return migrate.Claim{
		Namespace: "cms", Name: "data", StorageClass: "nowhere", VolumeMode: "Filesystem", AccessModes: []string{"ReadWriteMany"},
		SizeBytes: 1 << 30, Volume: "pvc-source", Moved: packed,
	}
}

// noVolume fails if the target has any volume but those that it had.
func (v *victim) noVolume(t *testing.T, but ...string) {
	t.Helper()
	var list corev1.PersistentVolumeList
	if err := v.client.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	for _, pv := range list.Items {
		if !strings.Contains(strings.Join(but, " "), pv.Name) {
			t.Errorf("volume %s was made: %+v", pv.Name, pv.Spec)
		}
	}
}

// A PersistentVolume may name the storage of any tenant: a pair that covers a
// namespace brings none, whatever it says, and finds out nothing of the cluster.
func TestMoveAttacks(t *testing.T) {
	v := newVictim(t)
	v.agent.Holds = &played{}
	a, admin := v.pair(t, pairing.Scope{Namespaces: []string{"cms"}}), v.pair(t, pairing.Scope{Admin: true})
	tenants := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "of-the-shop"}}
	if err := json.Unmarshal(storageOf(t, handle("d", "shop-data")), &tenants.Spec); err != nil {
		t.Fatal(err)
	}
	tenants.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "shop", Name: "data"}
	v.create(t, tenants)
	t.Run("without an admin pair", func(t *testing.T) { a.unvouched(t) })
	t.Run("on an admin pair's word for something else", func(t *testing.T) { a.vouchedOtherwise(t, admin) })
	t.Run("by a pair that left since", func(t *testing.T) { a.vouchedByTheGone(t) })
	t.Run("more than a volume", func(t *testing.T) { admin.smuggled(t) })
	t.Run("a tenant's storage", func(t *testing.T) { admin.taken(t) })
	v.noVolume(t, "of-the-shop")
}

func (a *attacker) unvouched(t *testing.T) {
	t.Helper()
	ref := a.seal(t, "cms/unvouched", "r1", nil)
	claim := handed(storageOf(t, handle("d", "shop-data")))
	err := a.target.Begin(t.Context(), migrate.Begin{RoundRef: ref, IncludeResources: true, Volumes: []migrate.Claim{claim}})
	if !errors.Is(err, pairing.ErrNamespace) || !strings.Contains(err.Error(), "only an admin pair") {
		t.Errorf("begun: %v", err)
	}
	for _, driver := range []string{"d", "not-here"} {
		forecast, err := a.target.Preflight(t.Context(), migrate.Preflight{
			Application: "cms/unvouched", Namespaces: []string{"cms"}, Volumes: []migrate.Claim{handed(storageOf(t, handle(driver, "h")))},
		})
		if err != nil || len(forecast.Problems) != 1 || forecast.Problems[0].Reason != "MoveNotAllowed" {
			t.Errorf("driver %s: %+v, %v", driver, forecast.Problems, err)
		}
	}
	waits := migrate.Begin{RoundRef: ref, IncludeResources: true, AwaitVouch: true, Volumes: []migrate.Claim{claim}}
	if err := a.target.Begin(t.Context(), waits); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		a.reconcile(t, ref.Application)
	}
	if err := a.target.Vouch(t.Context(), migrate.Vouch{RoundRef: ref, PairID: a.peer.PairID, Moved: waits.Volumes}); !errors.Is(err, pairing.ErrNamespace) {
		t.Errorf("it vouched for itself: %v", err)
	}
	outside := handed(storageOf(t, nil))
	outside.Namespace = "shop"
	err = a.target.Begin(t.Context(), migrate.Begin{RoundRef: ref, AwaitVouch: true, Volumes: []migrate.Claim{outside}})
	if !errors.Is(err, pairing.ErrNamespace) {
		t.Errorf("a claim of another namespace: %v", err)
	}
}

// vouchedOtherwise begins with another volume than the admin pair's cluster hands over.
func (a *attacker) vouchedOtherwise(t *testing.T, admin *attacker) {
	t.Helper()
	ref := a.seal(t, "cms/otherwise", "r1", nil)
	evil := handed(storageOf(t, handle("d", "trusted-data")))
	if err := a.target.Begin(t.Context(), migrate.Begin{RoundRef: ref, IncludeResources: true, AwaitVouch: true, Volumes: []migrate.Claim{evil}}); err != nil {
		t.Fatal(err)
	}
	for name, said := range map[string][]migrate.Claim{"nothing": nil, "another": {handed(storageOf(t, nil))}, "more": {evil, {Namespace: "cms", Name: "b", Moved: evil.Moved}}} {
		err := admin.target.Vouch(t.Context(), migrate.Vouch{RoundRef: ref, PairID: a.peer.PairID, Moved: said})
		if !errors.Is(err, pairing.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 5 {
		a.reconcile(t, ref.Application)
	}
	// What was vouched for is changed behind its back.
	if err := admin.target.Vouch(t.Context(), migrate.Vouch{RoundRef: ref, PairID: a.peer.PairID, Moved: []migrate.Claim{evil}}); err != nil {
		t.Fatal(err)
	}
	a.edit(t, ref.Application, func(s *api.Standby) { s.Spec.Volumes[0].Moved.Raw = storageOf(t, handle("d", "other-data")) })
	a.fails(t, ref, "did not vouch for these volumes")
}

func (a *attacker) edit(t *testing.T, application string, change func(*api.Standby)) {
	t.Helper()
	var standbys api.StandbyList
	if err := a.client.List(t.Context(), &standbys, client.InNamespace(home)); err != nil {
		t.Fatal(err)
	}
	for i := range standbys.Items {
		if s := &standbys.Items[i]; s.Spec.Application == application {
			change(s)
			if err := a.client.Update(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (a *attacker) fails(t *testing.T, ref migrate.RoundRef, words string) {
	t.Helper()
	for range 20 {
		if s := a.reconcile(t, ref.Application); s.Phase == api.StandbyFailed {
			if !strings.Contains(s.Message, words) {
				t.Errorf("it failed for %q, want %q", s.Message, words)
			}
			return
		}
	}
	t.Errorf("%s never failed", ref.Application)
}

func (a *attacker) vouchedByTheGone(t *testing.T) {
	t.Helper()
	admin := a.pair(t, pairing.Scope{Admin: true})
	ref := a.seal(t, "cms/gone", "r1", nil)
	claim := handed(storageOf(t, nil))
	if err := a.target.Begin(t.Context(), migrate.Begin{RoundRef: ref, AwaitVouch: true, Volumes: []migrate.Claim{claim}}); err != nil {
		t.Fatal(err)
	}
	if err := admin.target.Vouch(t.Context(), migrate.Vouch{RoundRef: ref, PairID: a.peer.PairID, Moved: []migrate.Claim{claim}}); err != nil {
		t.Fatal(err)
	}
	peer, err := a.peers.Get(t.Context(), pairing.Incoming, admin.peer.PairID)
	if err != nil {
		t.Fatal(err)
	}
	peer.Left = time.Now()
	if _, err := a.peers.Put(t.Context(), peer); err != nil {
		t.Fatal(err)
	}
	a.fails(t, ref, "only an admin pair")
}

// smuggled is what even an admin pair does not bring by this door.
func (a *attacker) smuggled(t *testing.T) {
	t.Helper()
	for name, change := range map[string]func(*corev1.PersistentVolumeSpec){
		"hostPath": func(s *corev1.PersistentVolumeSpec) {
			s.NFS, s.HostPath = nil, &corev1.HostPathVolumeSource{Path: "/etc"}
		},
		"for another claim": func(s *corev1.PersistentVolumeSpec) {
			s.ClaimRef = &corev1.ObjectReference{Namespace: home, Name: "standby"}
		},
		"that deletes": func(s *corev1.PersistentVolumeSpec) {
			s.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
		},
	} {
		ref := migrate.RoundRef{Application: "cms/smuggled", Round: "r1", Namespaces: []string{"cms"}}
		if err := a.target.Begin(t.Context(), migrate.Begin{RoundRef: ref, Volumes: []migrate.Claim{handed(storageOf(t, change))}}); !errors.Is(err, pairing.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string]migrate.Begin{"staged": {Stage: true}, "activated": {Activate: true}} {
		b.RoundRef = migrate.RoundRef{Application: "cms/smuggled", Round: "r1", Namespaces: []string{"cms"}}
		b.Volumes = []migrate.Claim{handed(storageOf(t, nil))}
		if err := a.target.Begin(t.Context(), b); !errors.Is(err, pairing.ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// taken is storage that a volume of the target has already: two that name it would
// have a driver stage it twice, for two tenants.
func (a *attacker) taken(t *testing.T) {
	t.Helper()
	ref := a.seal(t, "cms/taken", "r1", nil)
	if err := a.target.Begin(t.Context(), migrate.Begin{RoundRef: ref, Volumes: []migrate.Claim{handed(storageOf(t, handle("d", "shop-data")))}}); err != nil {
		t.Fatal(err)
	}
	a.fails(t, ref, "volume of-the-shop of the target, of claim shop/data, has the storage d shop-data already")
}

// TestMovePreflight names what the target lacks, before the source is stopped.
func TestMovePreflight(t *testing.T) {
	v := newVictim(t)
	admin := v.pair(t, pairing.Scope{Admin: true})
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"zone": "a"}}}
	v.create(t, node, &storagev1.CSINode{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "d", NodeID: "n1"}}},
	}, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "key"}})
	secret := func(name string) func(*corev1.PersistentVolumeSpec) {
		return func(s *corev1.PersistentVolumeSpec) {
			handle("d", "h")(s)
			s.CSI.NodePublishSecretRef = &corev1.SecretReference{Namespace: "shop", Name: name}
		}
	}
	zone := func(name string) func(*corev1.PersistentVolumeSpec) {
		return func(s *corev1.PersistentVolumeSpec) {
			s.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{name}}},
			}}}}
		}
	}
	for name, c := range map[string]struct {
		change func(*corev1.PersistentVolumeSpec)
		reason string
	}{
		"nfs": {nil, ""}, "driver": {handle("d", "h"), ""}, "another driver": {handle("e", "h"), "DriverNotFound"},
		"secret": {secret("key"), ""}, "no secret": {secret("none"), "SecretNotFound"},
		"zone": {zone("a"), ""}, "another zone": {zone("b"), "VolumeOutOfReach"},
	} {
		forecast, err := admin.target.Preflight(t.Context(), migrate.Preflight{
			Application: "cms/cms", Namespaces: []string{"cms"}, Volumes: []migrate.Claim{handed(storageOf(t, c.change))},
		})
		got := ""
		for _, p := range forecast.Problems {
			got += p.Reason
		}
		if err != nil || got != c.reason {
			t.Errorf("%s: %+v, %v", name, forecast.Problems, err)
		}
	}
	v.noVolume(t)
}

// handedVolume brings a round whose one volume is handed over to where begin leaves it.
func handedVolume(t *testing.T) (p *played, begin func()) {
	t.Helper()
	v := newVictim(t)
	a, admin := v.pair(t, pairing.Scope{Namespaces: []string{"cms"}}), v.pair(t, pairing.Scope{Admin: true})
	p = &played{attacker: a, t: t, snapshots: map[string]types.UID{}}
	v.agent.Holds, v.agent.Snapshots = p, p
	v.create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "shelves"}, Data: map[string]string{"from": "target"}})
	objects, err := workload.Decode([]byte(movedObjects))
	p.must(err)
	packed, err := workload.Pack(workload.Instructions{StartApplications: true, Conflicts: workload.Conflicts{Resolution: "Overwrite"}}, objects)
	p.must(err)
	key, err := p.peer.SealingPrivateKey()
	p.must(err)
	return p, func() {
		p.rounds++
		p.round = migrate.RoundRef{Application: "cms/cms", Round: "r" + string(rune('0'+p.rounds)), Namespaces: []string{"cms"}}
		sealed, err := snapshot.Seal(snapshot.RecoveryPoint{App: "cms/cms", Round: p.round.Round, Cluster: "source-id", Sealed: time.Now()}, packed, key)
		p.must(err)
		p.must(v.bucket.Seal(t.Context(), sealed))
		claims := []migrate.Claim{handed(storageOf(t, nil))}
		p.must(p.target.Begin(t.Context(), migrate.Begin{RoundRef: p.round, IncludeResources: true, StartApplications: true, AwaitVouch: true, Volumes: claims}))
		p.must(admin.target.Vouch(t.Context(), migrate.Vouch{RoundRef: p.round, PairID: a.peer.PairID, Moved: claims}))
	}
}

func (p *played) reach() {
	p.t.Helper()
	for range 60 {
		p.step()
		if s := p.standby(); s.Status.Phase == api.StandbyReady {
			p.step()
			p.isMoved()
			return
		}
	}
	p.t.Fatalf("the round is never reached: %+v", p.standby().Status)
}

// isHanded fails unless the application has the source's own storage, kept.
func (p *played) isHanded() {
	p.t.Helper()
	var pv corev1.PersistentVolume
	var pvc corev1.PersistentVolumeClaim
	p.must(p.client.Get(p.t.Context(), client.ObjectKey{Name: "pvc-source"}, &pv))
	p.must(p.client.Get(p.t.Context(), client.ObjectKey{Namespace: "cms", Name: "data"}, &pvc))
	ref := pv.Spec.ClaimRef
	if pv.Spec.NFS == nil || pv.Spec.NFS.Path != "/cms" || pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain ||
		ref == nil || ref.Namespace != "cms" || ref.Name != "data" || pvc.Spec.VolumeName != "pvc-source" || *pvc.Spec.StorageClassName != pv.Spec.StorageClassName {
		p.t.Errorf("the application's volume is %+v, its claim %+v", pv.Spec, pvc.Spec)
	}
	status, err := p.target.Status(p.t.Context(), p.round)
	p.must(err)
	if len(status.Volumes) != 1 || status.Volumes[0].Volume != "pvc-source" || status.Volumes[0].BytesTotal+status.Volumes[0].BytesWritten != 0 {
		p.t.Errorf("%+v", status.Volumes)
	}
	var transfers api.VolumeTransferList
	p.must(p.client.List(p.t.Context(), &transfers))
	if len(transfers.Items) > 0 {
		p.t.Errorf("%d transfers", len(transfers.Items))
	}
}

// neverDeletes fails where a volume over the source's storage could delete it.
func (p *played) neverDeletes() {
	p.t.Helper()
	var list corev1.PersistentVolumeList
	p.must(p.client.List(p.t.Context(), &list))
	for _, pv := range list.Items {
		if pv.Spec.NFS != nil && pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain {
			p.t.Fatalf("volume %s would delete the source's storage", pv.Name)
		}
	}
}

// TestMoveThereAndBack hands a volume over and takes it back, killed at each write: its
// storage is never deleted, what was written to it is no reason to refuse, it is not
// taken from under a pod, and no volume of the target names it after.
func TestMoveThereAndBack(t *testing.T) {
	p, begin := handedVolume(t)
	cut := &cutClient{Client: p.agent.Client, left: 1 << 20}
	p.agent.Client = cut
	begin()
	for i := 0; p.standby().Status.Phase != api.StandbyReady; i++ {
		if i > 200 {
			t.Fatalf("the round is never reached: %+v", p.standby().Status)
		}
		cut.left = i % 4
		p.step()
		p.neverDeletes()
	}
	cut.left = 1 << 20
	p.reach()
	p.isHanded()
	pod := p.user()
	for i := 0; ; i++ {
		cut.left = i % 4
		if i == 10 {
			if len(p.volumes()) == 0 {
				t.Error("the volume was taken from under a pod")
			}
			p.must(p.client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)))
		}
		report, err := p.target.RollBack(t.Context(), migrate.RollBack{RoundRef: p.round, Request: 1})
		if err != nil && !strings.Contains(err.Error(), errCut.Error()) || report.Refused || i > 200 {
			t.Fatalf("look %d: %+v, %v; %+v", i, report, err, p.standby().Status)
		}
		if report.Done {
			break
		}
		p.step()
		p.neverDeletes()
	}
	p.gone()
}

// TestMoveCancelled takes a volume back that was handed over in a round that was not
// reached, killed at each write; the next round has it again.
func TestMoveCancelled(t *testing.T) {
	p, begin := handedVolume(t)
	cut := &cutClient{Client: p.agent.Client, left: 1 << 20}
	p.agent.Client = cut
	begin()
	for i := 0; len(p.standby().Status.Volumes) == 0 || !p.standby().Status.Volumes[0].HandedOver; i++ {
		if i > 60 {
			t.Fatalf("it is never handed over: %+v", p.standby().Status)
		}
		p.step()
	}
	p.step() // The objects are being applied.
	for i := 0; ; i++ {
		cut.left = i % 4
		done, err := p.target.Cancel(t.Context(), migrate.Cancel{RoundRef: p.round})
		if err != nil && !strings.Contains(err.Error(), errCut.Error()) || i > 200 {
			t.Fatalf("look %d: %v", i, err)
		}
		if done {
			break
		}
		p.stepAny()
		p.neverDeletes()
	}
	p.gone()
	cut.left = 1 << 20
	begin()
	p.reach()
	p.isHanded()
}

// stepAny steps where there is a standby yet.
func (p *played) stepAny() {
	p.t.Helper()
	var list api.StandbyList
	p.must(p.client.List(p.t.Context(), &list, client.InNamespace(home)))
	if len(list.Items) > 0 {
		p.step()
	}
}

// user is a pod of the application with the claim.
func (p *played) user() *corev1.Pod {
	p.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: "web-0"}}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	p.must(client.IgnoreAlreadyExists(p.client.Create(p.t.Context(), pod)))
	return pod
}

func (p *played) volumes() []corev1.PersistentVolume {
	p.t.Helper()
	var list corev1.PersistentVolumeList
	p.must(p.client.List(p.t.Context(), &list))
	return list.Items
}

// gone fails unless the target is as it was, without a volume over the source's storage.
func (p *played) gone() {
	p.t.Helper()
	config, claim, web, _ := p.have()
	if config != "target" || claim || web || len(p.volumes()) > 0 {
		p.t.Errorf("the target is not as it was: %s, %t, %t, %+v", config, claim, web, p.volumes())
	}
}
