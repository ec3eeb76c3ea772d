//go:build rights

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	sdkapi "github.com/libopenstorage/openstorage/api"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	api "github.com/godwit-io/godwit/daemon/api/v1alpha1"
	"github.com/godwit-io/godwit/test/scenario"
)

// stage plays all that Godwit does, while rights are taken away from it.
type stage struct {
	t *testing.T
	g *scenario.Ground
}

// try does a step again until it succeeds: each time another right may be gone.
func (s *stage) try(ctx context.Context, what string, step func(context.Context) error) {
	s.t.Helper()
	began := time.Now()
	err := scenario.Await(ctx, scenario.Long, what, func(ctx context.Context) (bool, string, error) {
		err := step(ctx)
		if err == nil {
			return true, "", nil
		}
		book.hear("a caller", err.Error())
		return false, err.Error(), nil
	})
	if err != nil {
		s.t.Error(err)
	}
	s.t.Logf("%s: %s", what, time.Since(began).Round(100*time.Millisecond))
}

func (s *stage) clusters() []scenario.Cluster { return []scenario.Cluster{s.g.Source, s.g.Target} }

// restart has the daemons do again what they do when they start.
func (s *stage) restart(ctx context.Context) {
	for _, c := range s.clusters() {
		for _, words := range []string{"godwitd controller", "godwitd node"} {
			must(s.t, s.g.StopBeside(ctx, c, words))
		}
	}
	// What a new cluster's controller makes of itself is made again.
	must(s.t, allowSDK(ctx, s.t, s.g.Source))
	for _, c := range s.clusters() {
		for _, what := range [][]string{{"-n", scenario.Namespace, "delete", "configmap", "godwit-cluster-info"}, {"delete", "schedulepolicies.godwit.io", "--all"}} {
			_, err := c.Kubectl(ctx, append(what, "--ignore-not-found")...)
			must(s.t, err)
		}
		for _, words := range []string{"godwitd controller", "godwitd node"} {
			must(s.t, s.g.StartBeside(ctx, c, words))
		}
	}
}

func (s *stage) apply(ctx context.Context, c scenario.Cluster, file string) {
	text, err := os.ReadFile("testdata/" + file)
	must(s.t, err)
	must(s.t, c.Apply(ctx, text))
}

// sdk keeps a credential by the OpenStorage SDK, changes it, and forgets it.
func (s *stage) sdk(ctx context.Context) {
	s.try(ctx, "what the controller says of the cluster", func(ctx context.Context) error {
		_, err := s.g.Source.Kubectl(ctx, "-n", scenario.Namespace, "get", "configmap", "godwit-cluster-info")
		return err
	})
	conn, as := asAdmin(ctx, s.t, s.g.Source)
	c := sdkapi.NewOpenStorageCredentialsClient(conn)
	wanted := &sdkapi.SdkCredentialCreateRequest{
		Name: "rights", Bucket: "rights", CredentialType: &sdkapi.SdkCredentialCreateRequest_AwsCredential{AwsCredential: &sdkapi.SdkAwsCredentialRequest{
			AccessKey: storeKey, SecretKey: storeSecret, Endpoint: plainStore(ctx, s.t, "rights"), Region: "us-east-1", DisableSsl: true,
		}},
	}
	must(s.t, awaitListening(ctx, pairingAddress(ctx, s.t, s.g.Source)))
	s.try(ctx, "a credential", func(context.Context) error {
		_, err := c.Create(as, wanted)
		if status.Code(err) == codes.AlreadyExists {
			return nil
		}
		return err
	})
	wanted.GetAwsCredential().Region = "us-east-2"
	s.try(ctx, "a credential's change", func(context.Context) error {
		_, err := c.Update(as, &sdkapi.SdkCredentialUpdateRequest{CredentialId: "rights", UpdateReq: wanted})
		return err
	})
	s.try(ctx, "the end of a credential", func(context.Context) error {
		_, err := c.Delete(as, &sdkapi.SdkCredentialDeleteRequest{CredentialId: "rights"})
		return err
	})
}

// pair makes a pair, with a new token where the last was spent in vain.
func (s *stage) pair(ctx context.Context, namespace string) {
	s.try(ctx, "pair of namespace "+namespace, func(ctx context.Context) error {
		err := s.g.Pair(ctx, namespace, "west")
		if err != nil {
			_, _ = s.g.Source.Kubectl(ctx, "-n", namespace, "delete", "clusterpairs.godwit.io", "west", "--timeout", "20s")
		}
		return err
	})
}

// moved runs Migrations until one succeeds, and returns its name.
func (s *stage) moved(ctx context.Context, namespace, more string) string {
	n, name := 0, ""
	s.try(ctx, "a Migration of "+namespace, func(ctx context.Context) error {
		n++
		name = fmt.Sprintf("%s-%d", namespace, n)
		if err := s.g.Source.Apply(ctx, []byte(migration(namespace, name, "west", namespace)+more)); err != nil {
			return err
		}
		m, err := s.g.AwaitSuccess(ctx, namespace, name, scenario.Long)
		if err != nil {
			s.t.Log(scenario.Describe(m))
			_ = s.g.DeleteMigration(ctx, namespace, name)
			_, _ = s.g.Target.Kubectl(ctx, "-n", namespace, "delete", "all,pvc,deploymentconfigs.apps.openshift.io", "--all", "--timeout", "30s")
		}
		return err
	})
	return name
}

func (s *stage) ctl(ctx context.Context, what string, c scenario.Cluster, args ...string) {
	s.try(ctx, what, func(ctx context.Context) error {
		_, err := s.g.Godwitctl(ctx, c, args...)
		return err
	})
}

// play is the whole of it.
func (s *stage) play(ctx context.Context) {
	s.restart(ctx)
	for _, c := range s.clusters() {
		s.apply(ctx, c, "rights-kinds.yaml")
		_, err := c.Kubectl(ctx, "wait", "--for", "condition=Established", "--timeout", "30s", "crd/deploymentconfigs.apps.openshift.io")
		must(s.t, err)
	}
	s.sdk(ctx)
	s.apply(ctx, s.g.Source, "rights.yaml")
	s.pair(ctx, "rights")
	s.ctl(ctx, "a pair's new certificate", s.g.Source, "-n", "rights", "rotate", "clusterpair", "west")
	once := s.moved(ctx, "rights", "  quiesce: true\n  precopy: {maxRounds: 1}\n  transformSpecs: [dark]\n  preserveResourcesOnDeletion: false\n")
	s.try(ctx, "the end of the Migration", func(ctx context.Context) error { return s.g.DeleteMigration(ctx, "rights", once) })
	s.hooks(ctx)
	s.schedule(ctx)
	for _, c := range s.clusters() {
		for _, kind := range []string{"migrationschedules.godwit.io", "migrations.godwit.io", "clusterpairs.godwit.io"} {
			s.try(ctx, "the end of "+kind+" in "+c.Name, func(ctx context.Context) error {
				_, err := c.Kubectl(ctx, "-n", "rights", "delete", kind, "--all", "--timeout", "30s")
				return err
			})
		}
	}
	// What was failed over stays when its schedule goes.
	s.try(ctx, "the end of the standbys", func(ctx context.Context) error {
		_, err := s.g.Target.Kubectl(ctx, "-n", scenario.Namespace, "delete", "standbies.godwit.io", "--all", "--timeout", "60s")
		return err
	})
	s.unpaired(ctx, s.g.Source)
	// What the source left, and has a standby, is shown there until somebody deletes it.
	_, err := s.g.Target.Kubectl(ctx, "-n", scenario.Namespace, "delete", "clusterpairs.godwit.io", "--all", "--timeout", "60s")
	must(s.t, err)
	s.unpaired(ctx, s.g.Target)
}

// unpaired waits until a cluster shows nobody that may send to it.
func (s *stage) unpaired(ctx context.Context, c scenario.Cluster) {
	s.try(ctx, "the end of what cluster "+c.Name+" shows of the other's pairs", func(ctx context.Context) error {
		shown, err := c.Kubectl(ctx, "-n", scenario.Namespace, "get", "clusterpairs.godwit.io", "-o", "name")
		if err == nil && shown != "" {
			err = fmt.Errorf("it shows %q", shown)
		}
		return err
	})
}

// hooks run commands in pods, which no kubelet is there to start, and Jobs, whose
// pods this test ends.
func (s *stage) hooks(ctx context.Context) {
	// The Migration left the source stopped.
	_, err := s.g.Source.Kubectl(ctx, "-n", "rights", "scale", "deployment/data", "--replicas", "1")
	must(s.t, err)
	hooked := s.again(ctx, "hooked", "  hooks: [{name: first, phase: PreBackup, image: \"nobody/runs-this:1\", command: [\"true\"]}]\n", func(m api.Migration) error {
		pods, err := s.g.Source.Kubectl(ctx, "-n", "rights", "get", "pods", "-l", "godwit.io/hook-round", "-o", "name")
		for pod := range strings.FieldsSeq(pods) {
			_, err = s.g.Source.Kubectl(ctx, "-n", "rights", "patch", pod, "--subresource", "status", "--type", "merge", "-p",
				`{"status":{"phase":"Succeeded","containerStatuses":[]}}`)
		}
		if err == nil && (len(m.Status.Hooks) == 0 || m.Status.Hooks[0].State != api.HookSucceeded) {
			err = fmt.Errorf("not yet: %s", scenario.Describe(m))
		}
		return err
	})
	s.end(ctx, hooked)
	// No command gets to a pod that no kubelet runs: that it was let through is enough.
	ruled := s.again(ctx, "ruled", "  preExecRule: lock\n", func(m api.Migration) error {
		if text := scenario.Describe(m); !strings.Contains(text, "error dialing backend") {
			return fmt.Errorf("not yet: %s", text)
		}
		return nil
	})
	// As long as the pod is there, the end waits to let go of what the command holds in it.
	for _, args := range [][]string{
		{"scale", "deployment/data", "--replicas", "0"}, {"delete", "pods", "--all", "--force", "--grace-period", "0"},
	} {
		_, err = s.g.Source.Kubectl(ctx, append([]string{"-n", "rights"}, args...)...)
		must(s.t, err)
	}
	s.end(ctx, ruled)
}

// end deletes a Migration.
func (s *stage) end(ctx context.Context, name string) {
	s.try(ctx, "the end of Migration "+name, func(ctx context.Context) error { return s.g.DeleteMigration(ctx, "rights", name) })
}

// again runs Migrations without volumes, another whenever one has ended, until done
// is content with one, which it names.
func (s *stage) again(ctx context.Context, name, more string, done func(api.Migration) error) (current string) {
	n := 0
	s.try(ctx, "a Migration that is "+name, func(ctx context.Context) error {
		if current == "" {
			n++
			current = fmt.Sprintf("%s-%d", name, n)
			if err := s.g.Source.Apply(ctx, []byte(migration("rights", current, "west", "rights")+"  includeVolumes: false\n"+more)); err != nil {
				return err
			}
		}
		m, err := s.g.Migration(ctx, "rights", current)
		if err != nil {
			return err
		}
		if err = done(m); err != nil && m.Status.Stage == api.MigrationStageFinal {
			err = errors.Join(err, s.g.DeleteMigration(ctx, "rights", current))
			current = ""
		}
		return err
	})
	return current
}

// schedule keeps a standby, drills it, and fails over.
func (s *stage) schedule(ctx context.Context) {
	// What was moved before is not brought forward. The namespace stays: it has the pair
	// that leads back.
	_, err := s.g.Target.Kubectl(ctx, "-n", "rights", "delete", "deployments,persistentvolumeclaims", "--all", "--timeout", "60s")
	must(s.t, err)
	must(s.t, s.g.EnsureLocation(ctx, s.g.Target, "rights", s.g.Store))
	s.ctl(ctx, "a schedule", s.g.Source, "create", "migrationschedule", "dr", "-n", "rights", "-c", "west", "--namespaces", "rights", "--continuous", "--min-interval-seconds", "2")
	run := func(what string) {
		began := time.Now()
		s.try(ctx, what, func(ctx context.Context) error {
			got, err := scenario.Get[api.MigrationSchedule](ctx, s.g.Source, "-n", "rights", "migrationschedules.godwit.io", "dr")
			if err == nil && (got.Status.LastSuccess == nil || got.CreationTimestamp.After(began)) {
				err = fmt.Errorf("no good run yet")
			}
			return err
		})
	}
	run("a run of the schedule")
	s.ctl(ctx, "a drill", s.g.Target, "drill", "start", "rights/rights", "-n", "rights-drill")
	s.ctl(ctx, "the end of the drill", s.g.Target, "drill", "stop", "rights-drill")
	// Asked on the target, it is the source that has an Action made.
	s.ctl(ctx, "a failover", s.g.Target, "perform", "failover", "-m", "dr", "-n", "rights")
}
