package migrate_test

import (
	"strings"
	"testing"

	"github.com/godwit-io/godwit/daemon/migrate"
)

func TestRuleFor(t *testing.T) {
	t.Parallel()
	rules := []migrate.VolumeRule{
		{Name: "shop/scratch", Action: migrate.SkipVolume},
		{Name: "cache", Class: "fast", Action: migrate.SkipVolume},
		{Labels: map[string]string{"tier": "db", "app": "a"}, Method: migrate.MethodBlock, SizeBytes: 10},
		{Class: "nfs", Action: migrate.MoveVolume},
		{},
		{Name: "*", Labels: map[string]string{"left": "out"}, Action: migrate.SkipVolume},
	}
	for name, c := range map[string]struct {
		f    migrate.ClaimFacts
		want migrate.VolumeAction
		meth migrate.Method
	}{
		"by namespace and name":     {migrate.ClaimFacts{Namespace: "shop", Name: "scratch"}, migrate.SkipVolume, ""},
		"another namespace":         {migrate.ClaimFacts{Namespace: "cms", Name: "scratch"}, migrate.CopyVolume, ""},
		"all of it must match":      {migrate.ClaimFacts{Namespace: "cms", Name: "cache", Class: "slow"}, migrate.CopyVolume, ""},
		"name and class":            {migrate.ClaimFacts{Namespace: "cms", Name: "cache", Class: "fast"}, migrate.SkipVolume, ""},
		"labels":                    {migrate.ClaimFacts{Name: "x", Labels: map[string]string{"tier": "db", "app": "a", "b": "c"}}, migrate.CopyVolume, migrate.MethodBlock},
		"one of two labels":         {migrate.ClaimFacts{Name: "x", Labels: map[string]string{"tier": "db"}}, migrate.CopyVolume, ""},
		"class":                     {migrate.ClaimFacts{Name: "x", Class: "nfs"}, migrate.MoveVolume, ""},
		"every claim of the labels": {migrate.ClaimFacts{Name: "x", Labels: map[string]string{"left": "out"}}, migrate.SkipVolume, ""},
		"an empty rule is no one":   {migrate.ClaimFacts{Name: "x"}, migrate.CopyVolume, ""},
	} {
		if got := migrate.RuleFor(rules, c.f); got.Action != c.want || got.Method != c.meth {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for name, c := range map[string]struct {
		rule migrate.VolumeRule
		says string
	}{
		"smaller": {migrate.VolumeRule{SizeBytes: 9}, "never gets smaller"}, "same": {migrate.VolumeRule{SizeBytes: 10}, ""},
		"larger": {migrate.VolumeRule{SizeBytes: 11}, ""}, "as it is": {migrate.VolumeRule{}, ""},
	} {
		if got := c.rule.Refusal(migrate.ClaimFacts{SizeBytes: 10}); (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q", name, got)
		}
	}
	shared := migrate.VolumeRule{AccessModes: []string{"ReadWriteOnce", "ReadWriteMany"}}
	if shared.Warning(migrate.MethodBlock, false) == "" || shared.Warning(migrate.MethodBlock, true) != "" || shared.Warning(migrate.MethodFilesystem, false) != "" {
		t.Error("the warning about shared volumes is given to the wrong ones")
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	most := migrate.Sizes{Namespaces: 2, Pods: 3, Volumes: 4}
	if refused, warnings := (migrate.Sizes{Namespaces: 2, Pods: 3, Volumes: 4}).Exceeds(most); refused != "" || len(warnings) > 0 {
		t.Errorf("at the limit: %q, %v", refused, warnings)
	}
	if refused, warnings := (migrate.Sizes{Namespaces: 3, Pods: 4, Volumes: 5}).Exceeds(most); !strings.Contains(refused, "3 namespaces") || len(warnings) != 2 {
		t.Errorf("beyond it: %q, %v", refused, warnings)
	}
}
