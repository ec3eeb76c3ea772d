package hook_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	security "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/godwit-io/godwit/daemon/hook"
	"github.com/godwit-io/godwit/daemon/migrate"
)

// TestLevelOfAPod holds hooks' pods against the levels of pod security.
func TestLevelOfAPod(t *testing.T) {
	t.Parallel()
	checks, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	user, group := int64(1001), int64(0)
	for _, c := range []struct {
		as    *migrate.HookUser
		level security.Level
	}{
		{nil, security.LevelBaseline},
		{&migrate.HookUser{FSGroup: &group}, security.LevelBaseline},
		{&migrate.HookUser{User: &user, Group: &group, FSGroup: &user}, security.LevelRestricted},
	} {
		h := migrate.Hook{Name: "x", Image: "i", User: c.as, Files: map[string]string{"playbook.yml": ""}, Deadline: time.Minute}
		job, err := hook.Runner{}.Job("pair", h)
		if err != nil {
			t.Fatal(err)
		}
		for _, level := range []security.Level{security.LevelBaseline, security.LevelRestricted} {
			at := security.LevelVersion{Level: level, Version: security.LatestVersion()}
			result := policy.AggregateCheckResults(checks.EvaluatePod(at, &metav1.ObjectMeta{}, &job.Spec.Template.Spec))
			if want := level == security.LevelBaseline || level == c.level; result.Allowed != want {
				t.Errorf("as %+v it is allowed at the level %s: %t (%s)", c.as, level, result.Allowed, result.ForbiddenDetail())
			}
		}
	}
}

// TestNoRoot refuses root also where no API server has looked at the Migration.
func TestNoRoot(t *testing.T) {
	t.Parallel()
	for _, user := range []int64{0, -1} {
		_, err := hook.Runner{}.Job("pair", migrate.Hook{Name: "x", Image: "i", User: &migrate.HookUser{User: &user}})
		if !errors.Is(err, hook.ErrUnusable) || !strings.Contains(err.Error(), "does not run as root") {
			t.Errorf("user %d: %v", user, err)
		}
	}
}
