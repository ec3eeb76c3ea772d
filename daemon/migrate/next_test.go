package migrate_test

import (
	"strings"
	"testing"

	"github.com/godwit-io/godwit/daemon/migrate"
)

// admitted is a Migration that is well under way.
func admitted(change func(*migrate.Observed)) migrate.Observed {
	o := migrate.Observed{
		HasFinalizer: true, OwnNamespace: "cms", AdminNamespace: "godwit-system",
		Namespaces: []migrate.Namespace{{Name: "cms", Exists: true}}, PairName: "prod",
		Pair: migrate.Pair{Found: true, Ready: true}, IncludeVolumes: true,
		Admitted: true, AskedTarget: true,
		Volumes:   []migrate.Volume{{Namespace: "cms", Name: "a", SnapshotReady: true, Image: "i"}, {Namespace: "cms", Name: "b", SnapshotReady: true, Image: "j"}},
		Forgotten: true,
	}
	change(&o)
	return o
}

func TestNext(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*migrate.Observed)
		want   migrate.ActionKind
		says   string
	}{
		"finalizer first":   {func(o *migrate.Observed) { o.HasFinalizer, o.Admitted = false, false }, migrate.Hold, ""},
		"admit":             {func(o *migrate.Observed) { o.Admitted = false }, migrate.Admit, ""},
		"unserved field":    {func(o *migrate.Observed) { o.Admitted = false; o.Unserved = []string{"spec.preExecRule"} }, migrate.Fail, "spec.preExecRule"},
		"foreign namespace": {func(o *migrate.Observed) { o.Admitted = false; o.Namespaces[0].Name = "other" }, migrate.Fail, "only contain the current namespace"},
		"admin may go abroad": {func(o *migrate.Observed) {
			o.Admitted = false
			o.Namespaces[0].Name = "other"
			o.OwnNamespace = "godwit-system"
		}, migrate.Admit, ""},
		"no namespace": {func(o *migrate.Observed) {
			o.Admitted = false
			o.Namespaces[0].Exists = false
			o.SkipMissingNamespaces = true
		}, migrate.Fail, "none of the namespaces"},
		"a namespace missing": {func(o *migrate.Observed) { o.Admitted = false; o.Namespaces[0].Exists = false }, migrate.Fail, "namespace cms does not exist"},
		"pair missing":        {func(o *migrate.Observed) { o.Admitted = false; o.Pair = migrate.Pair{} }, migrate.Wait, "ClusterPair prod does not exist"},
		"pair broken":         {func(o *migrate.Observed) { o.Admitted = false; o.Pair = migrate.Pair{Found: true, Message: "why"} }, migrate.Wait, "why"},
		"pair breaks later":   {func(o *migrate.Observed) { o.Pair.Ready = false }, migrate.Wait, "not ready"},
		"claim refused":       {func(o *migrate.Observed) { o.Admitted = false; o.Volumes[1].Refused = "it is Pending" }, migrate.Fail, "claim cms/b: it is Pending"},
		"ask":                 {func(o *migrate.Observed) { o.AskedTarget = false }, migrate.AskTarget, ""},
		"all snapshots first": {func(o *migrate.Observed) { o.Volumes[0].Image = ""; o.Volumes[1] = migrate.Volume{Name: "b"} }, migrate.TakeSnapshots, ""},
		"upload":              {func(o *migrate.Observed) { o.Volumes[1].Image = "" }, migrate.Upload, ""},
		"one volume fails all": {func(o *migrate.Observed) {
			o.Volumes[0].Image = ""
			o.Volumes[1].Image, o.Volumes[1].Failed = "", "disk"
		}, migrate.Fail, "disk"},
		"seal":               {func(*migrate.Observed) {}, migrate.SealRound, ""},
		"no volumes to move": {func(o *migrate.Observed) { o.IncludeVolumes = false; o.Volumes = nil }, migrate.SealRound, ""},
		"begin":              {func(o *migrate.Observed) { o.Sealed = true }, migrate.BeginTarget, ""},
		"poll":               {func(o *migrate.Observed) { o.Sealed, o.Begun = true, true }, migrate.PollTarget, ""},
		"poll on": {func(o *migrate.Observed) {
			o.Sealed, o.Begun = true, true
			o.Target = &migrate.TargetStatus{Phase: migrate.TargetVolumes}
		}, migrate.PollTarget, ""},
		"finish": {func(o *migrate.Observed) {
			o.Sealed, o.Begun = true, true
			o.Target = &migrate.TargetStatus{Phase: migrate.TargetReady}
		}, migrate.Finish, ""},
		"target fails": {func(o *migrate.Observed) {
			o.Sealed, o.Begun = true, true
			o.Target = &migrate.TargetStatus{Phase: migrate.TargetFailed, Message: "full"}
		}, migrate.Fail, "full"},
		"release at the end": {func(o *migrate.Observed) { o.Ended = true }, migrate.Release, ""},
		"rest":               {func(o *migrate.Observed) { o.Ended, o.Released = true, true; o.Forgotten = false }, migrate.Nothing, ""},
		"failure is cleared": {func(o *migrate.Observed) { o.Ended, o.Released, o.Failed = true, true, true; o.Forgotten = false }, migrate.Forget, ""},
		"deleted: release":   {func(o *migrate.Observed) { o.Deleting = true }, migrate.Release, ""},
		"deleted: forget":    {func(o *migrate.Observed) { o.Deleting, o.Released, o.Forgotten = true, true, false }, migrate.Forget, ""},
		"deleted: let go":    {func(o *migrate.Observed) { o.Deleting, o.Released = true, true }, migrate.LetGo, ""},
		"deleted: gone":      {func(o *migrate.Observed) { o.Deleting, o.HasFinalizer = true, false }, migrate.Nothing, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := migrate.Next(admitted(c.change))
			if got.Kind != c.want || !strings.Contains(got.Message, c.says) {
				t.Errorf("got %s %q, want %s with %q", got.Kind, got.Message, c.want, c.says)
			}
			if (got.Kind == migrate.Fail || got.Kind == migrate.Wait) && (got.Reason == "" || got.Message == "") {
				t.Errorf("%s says nothing to the user", got.Kind)
			}
		})
	}
}

func TestNextStandby(t *testing.T) {
	t.Parallel()
	held := migrate.StandbyVolume{Name: "cms/a", Holds: true}
	over := migrate.StandbyVolume{Name: "cms/b", Holds: true, HandedOver: true}
	base := migrate.ObservedStandby{HasFinalizer: true, PairFound: true, RoundRead: true}
	for name, c := range map[string]struct {
		change func(*migrate.ObservedStandby)
		want   migrate.StandbyActionKind
	}{
		"finalizer first":                {func(o *migrate.ObservedStandby) { o.HasFinalizer = false }, migrate.HoldStandby},
		"pair gone":                      {func(o *migrate.ObservedStandby) { o.PairFound = false }, migrate.WaitForPair},
		"read":                           {func(o *migrate.ObservedStandby) { o.RoundRead = false }, migrate.ReadRound},
		"nothing is handed over in part": {func(o *migrate.ObservedStandby) { o.Volumes = []migrate.StandbyVolume{held, {Name: "cms/c"}} }, migrate.BringForward},
		"hand over":                      {func(o *migrate.ObservedStandby) { o.Volumes = []migrate.StandbyVolume{held, over} }, migrate.HandOver},
		"a volume fails":                 {func(o *migrate.ObservedStandby) { o.Volumes = []migrate.StandbyVolume{held, {Failed: "x"}} }, migrate.FailStandby},
		"objects last":                   {func(o *migrate.ObservedStandby) { o.Volumes = []migrate.StandbyVolume{over} }, migrate.ApplyObjects},
		"tidy":                           {func(o *migrate.ObservedStandby) { o.Applied = true }, migrate.TidyUp},
		"rest":                           {func(o *migrate.ObservedStandby) { o.Ready, o.Tidy = true, true }, migrate.RestStandby},
		"deleted unready is taken back":  {func(o *migrate.ObservedStandby) { o.Deleting = true }, migrate.TakeBack},
		"deleted ready keeps the app":    {func(o *migrate.ObservedStandby) { o.Deleting, o.Ready, o.Tidy = true, true, true }, migrate.LetGoStandby},
		"deleted and taken back":         {func(o *migrate.ObservedStandby) { o.Deleting, o.TakenBack, o.Tidy = true, true, true }, migrate.LetGoStandby},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := base
			c.change(&o)
			if got := migrate.NextStandby(o); got.Kind != c.want {
				t.Errorf("got %s, want %s", got.Kind, c.want)
			}
		})
	}
}

func TestChooseMethod(t *testing.T) {
	t.Parallel()
	snaps := migrate.VolumeFacts{HasSnapshots: true}
	none := migrate.VolumeFacts{NoSnapshots: "no class"}
	for name, c := range map[string]struct {
		asked   migrate.Method
		facts   migrate.VolumeFacts
		method  migrate.Method
		live    bool
		refused bool
	}{
		"block storage":         {migrate.MethodAuto, snaps, migrate.MethodBlock, false, false},
		"shared":                {migrate.MethodAuto, migrate.VolumeFacts{Shared: true, HasSnapshots: true}, migrate.MethodFilesystem, false, false},
		"no snapshots":          {migrate.MethodAuto, none, migrate.MethodFilesystem, true, false},
		"raw":                   {migrate.MethodAuto, migrate.VolumeFacts{BlockMode: true, HasSnapshots: true}, migrate.MethodBlock, false, false},
		"raw without snapshots": {migrate.MethodAuto, migrate.VolumeFacts{BlockMode: true}, "", false, true},
		"raw as files":          {migrate.MethodFilesystem, migrate.VolumeFacts{BlockMode: true, HasSnapshots: true}, "", false, true},
		"block without":         {migrate.MethodBlock, none, "", false, true},
		"block of a shared one": {migrate.MethodBlock, migrate.VolumeFacts{Shared: true, HasSnapshots: true}, "", false, true},
		"files as asked":        {migrate.MethodFilesystem, snaps, migrate.MethodFilesystem, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := migrate.ChooseMethod(c.asked, c.facts)
			if got.Method != c.method || got.Live != c.live || (got.Refused != "") != c.refused {
				t.Errorf("got %+v", got)
			}
		})
	}
}
