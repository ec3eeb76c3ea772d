package migrate_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godwit-io/godwit/daemon/migrate"
)

// admitted is a Migration that is well under way.
func admitted(change func(*migrate.Observed)) migrate.Observed {
	o := migrate.Observed{
		HasFinalizer: true, OwnNamespace: "cms", AdminNamespace: "godwit-system",
		Namespaces: []migrate.Namespace{{Name: "cms", Exists: true}}, PairName: "prod",
		Pair: migrate.Pair{Found: true, Ready: true}, IncludeVolumes: true,
		Admitted: true, AskedTarget: true, Collected: true,
		Volumes: []migrate.Volume{
			{Namespace: "cms", Name: "a", Cut: true, SnapshotReady: true, Image: "i"},
			{Namespace: "cms", Name: "b", Cut: true, SnapshotReady: true, Image: "j"},
		},
		Forgotten: true, Restored: true,
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
		"epoch first": {func(o *migrate.Observed) {
			o.Admitted = false
			o.Pair = migrate.Pair{Found: true, Repository: true, Message: "the target is out of reach"}
		}, migrate.AskEpoch, ""},
		"epoch asked":        {func(o *migrate.Observed) { o.Admitted, o.EpochAsked, o.Pair.Repository = false, true, true }, migrate.Admit, ""},
		"pair breaks later":  {func(o *migrate.Observed) { o.Pair.Ready = false }, migrate.Wait, "not ready"},
		"admin pair missing": {func(o *migrate.Observed) { o.Admitted, o.AdminPairName = false, "root" }, migrate.Wait, "does not exist in the admin namespace godwit-system"},
		"admin pair broken": {func(o *migrate.Observed) {
			o.AdminPairName, o.AdminPair = "root", migrate.Pair{Found: true, Message: "why"}
		}, migrate.Wait, "why"},
		"admin pair needed no more": {func(o *migrate.Observed) { o.Sealed, o.Begun, o.AdminPairName = true, true, "root" }, migrate.PollTarget, ""},
		"claim refused":             {func(o *migrate.Observed) { o.Admitted = false; o.Volumes[1].Refused = "it is Pending" }, migrate.Fail, "claim cms/b: it is Pending"},
		"ask":                       {func(o *migrate.Observed) { o.AskedTarget = false }, migrate.AskTarget, ""},
		"all snapshots first":       {func(o *migrate.Observed) { o.Volumes[0].Image = ""; o.Volumes[1] = migrate.Volume{Name: "b"} }, migrate.TakeSnapshots, ""},
		"too large":                 {func(o *migrate.Observed) { o.Admitted, o.TooLarge = false, "it moves 11 namespaces" }, migrate.Fail, "11 namespaces"},
		"precopy first":             {func(o *migrate.Observed) { o.Admitted, o.Precopy = false, true }, migrate.Precopy, ""},
		"precopied":                 {func(o *migrate.Observed) { o.Admitted, o.Precopy, o.Precopied = false, true, true }, migrate.Admit, ""},
		"roll back":                 {func(o *migrate.Observed) { o.Ended, o.Released, o.Rollback = true, true, true }, migrate.RollBackMigration, ""},
		"release before a rollback": {func(o *migrate.Observed) { o.Ended, o.Rollback = true, true }, migrate.Release, ""},
		"deleted: roll back": {func(o *migrate.Observed) {
			o.Deleting, o.Ended, o.Released, o.Rollback, o.Forgotten = true, true, true, true, false
		}, migrate.RollBackMigration, ""},
		"objects with the snapshots": {func(o *migrate.Observed) {
			o.Collected = false
			o.Volumes[1] = migrate.Volume{Name: "b", Cut: true}
		}, migrate.CollectObjects, ""},
		"snapshots get ready": {func(o *migrate.Observed) { o.Volumes[1] = migrate.Volume{Name: "b", Cut: true} }, migrate.TakeSnapshots, ""},
		"objects alone":       {func(o *migrate.Observed) { o.Collected, o.IncludeVolumes, o.Volumes = false, false, nil }, migrate.CollectObjects, ""},
		"upload":              {func(o *migrate.Observed) { o.Volumes[1].Image = "" }, migrate.Upload, ""},
		"one volume fails all": {func(o *migrate.Observed) {
			o.Volumes[0].Image = ""
			o.Volumes[1].Image, o.Volumes[1].Failed = "", "disk"
		}, migrate.Fail, "disk"},
		"another's turn":             {func(o *migrate.Observed) { o.Ahead = "first" }, migrate.Wait, "Migration first"},
		"the target's turn":          {func(o *migrate.Observed) { o.Sealed, o.AheadOnTarget = true, "first" }, migrate.Wait, "not done with Migration first"},
		"another's turn, unadmitted": {func(o *migrate.Observed) { o.Admitted, o.Ahead = false, "first" }, migrate.Wait, "Migration first"},
		"too late to wait":           {func(o *migrate.Observed) { o.Sealed, o.Begun, o.Ahead = true, true, "first" }, migrate.PollTarget, ""},
		"seal":                       {func(*migrate.Observed) {}, migrate.SealRound, ""},
		"no volumes to move":         {func(o *migrate.Observed) { o.IncludeVolumes = false; o.Volumes = nil }, migrate.SealRound, ""},
		"begin":                      {func(o *migrate.Observed) { o.Sealed = true }, migrate.BeginTarget, ""},
		"poll":                       {func(o *migrate.Observed) { o.Sealed, o.Begun = true, true }, migrate.PollTarget, ""},
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
		"release at the end":        {func(o *migrate.Observed) { o.Ended = true }, migrate.Release, ""},
		"rest":                      {func(o *migrate.Observed) { o.Ended, o.Released = true, true; o.Forgotten = false }, migrate.Nothing, ""},
		"failure is cleared":        {func(o *migrate.Observed) { o.Ended, o.Released, o.Failed = true, true, true; o.Forgotten = false }, migrate.ClearUp, ""},
		"failure starts the source": {func(o *migrate.Observed) { o.Ended, o.Released, o.Failed = true, true, true; o.Restored = false }, migrate.ClearUp, ""},
		"quiesce first":             {func(o *migrate.Observed) { o.Quiesce, o.Collected = true, false; o.Volumes[0].Cut = false }, migrate.StopSource, ""},
		"quiesced": {func(o *migrate.Observed) {
			o.Quiesce, o.Stopped, o.Collected = true, true, false
			o.Volumes[0].Cut = false
		}, migrate.TakeSnapshots, ""},
		"not stopped twice": {func(o *migrate.Observed) { o.Quiesce, o.Sealed = true, true }, migrate.BeginTarget, ""},
		"the first pod is waited for": {func(o *migrate.Observed) {
			o.Sealed, o.Begun, o.AwaitStart = true, true, true
			o.Target = &migrate.TargetStatus{Phase: migrate.TargetReady}
		}, migrate.PollTarget, ""},
		"cancelled":            {func(o *migrate.Observed) { o.Cancel = true }, migrate.EndCancelled, "spec.cancel"},
		"cancelled unadmitted": {func(o *migrate.Observed) { o.Cancel, o.Admitted, o.Pair = true, false, migrate.Pair{} }, migrate.EndCancelled, "spec.cancel"},
		"too late to cancel":   {func(o *migrate.Observed) { o.Cancel, o.Ended, o.Released = true, true, true }, migrate.Nothing, ""},
		"deleted: take back":   {func(o *migrate.Observed) { o.Deleting = true }, migrate.ClearUp, ""},
		"deleted: release":     {func(o *migrate.Observed) { o.Deleting, o.Ended = true, true }, migrate.Release, ""},
		"deleted: forget":      {func(o *migrate.Observed) { o.Deleting, o.Ended, o.Released, o.Forgotten = true, true, true, false }, migrate.Forget, ""},
		"deleted: let go":      {func(o *migrate.Observed) { o.Deleting, o.Released = true, true }, migrate.LetGo, ""},
		"deleted: gone":        {func(o *migrate.Observed) { o.Deleting, o.HasFinalizer = true, false }, migrate.Nothing, ""},
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
	base := migrate.ObservedStandby{HasFinalizer: true, PairFound: true, Begun: true, RoundRead: true}
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
		"another round":                  {func(o *migrate.ObservedStandby) { o.Ready, o.Tidy, o.Begun = true, true, false }, migrate.StartRound},
		"a stage ends with its volumes":  {func(o *migrate.ObservedStandby) { o.Stage, o.Volumes = true, []migrate.StandbyVolume{held} }, migrate.TidyUp},
		"a stage brings them first":      {func(o *migrate.ObservedStandby) { o.Stage, o.Volumes = true, []migrate.StandbyVolume{{}} }, migrate.BringForward},
		"too late to activate":           {func(o *migrate.ObservedStandby) { o.Activate, o.Superseded = true, true }, migrate.RefuseActivation},
		"a round is chosen":              {func(o *migrate.ObservedStandby) { o.Activate = true }, migrate.ChooseRound},
		"cancelled":                      {func(o *migrate.ObservedStandby) { o.Cancel, o.Failed = true, true }, migrate.GoBack},
		"cancelled while handing over":   {func(o *migrate.ObservedStandby) { o.Cancel, o.HandingOver = true, true }, migrate.Dismiss},
		"deleted stage goes whole":       {func(o *migrate.ObservedStandby) { o.Deleting, o.Stage, o.Ready, o.Tidy = true, true, true, true }, migrate.TakeBack},
		"deleted unready is taken back":  {func(o *migrate.ObservedStandby) { o.Deleting = true }, migrate.TakeBack},
		"deleted ready keeps the app":    {func(o *migrate.ObservedStandby) { o.Deleting, o.Ready, o.Tidy = true, true, true }, migrate.LetGoStandby},
		"a rollback compares first":      {func(o *migrate.ObservedStandby) { o.Ready, o.Tidy, o.Rollback.Asked = true, true, true }, migrate.CompareVolumes},
		"a rollback drops writes": {func(o *migrate.ObservedStandby) {
			o.Ready, o.Tidy, o.Rollback = true, true, migrate.ObservedRollback{Asked: true, DropWrites: true}
		}, migrate.RollBackRound},
		"a rollback is refused": {func(o *migrate.ObservedStandby) {
			o.Ready, o.Tidy, o.Rollback = true, true, migrate.ObservedRollback{Asked: true, Compared: true, Written: "w"}
		}, migrate.RefuseRollback},
		"a refused one rests": {func(o *migrate.ObservedStandby) {
			o.Ready, o.Tidy, o.Rollback = true, true, migrate.ObservedRollback{Asked: true, Compared: true, Written: "w", Refused: true}
		}, migrate.RestStandby},
		"nothing was written": {func(o *migrate.ObservedStandby) {
			o.Ready, o.Tidy, o.Rollback = true, true, migrate.ObservedRollback{Asked: true, Compared: true}
		}, migrate.RollBackRound},
		"what has begun goes on": {func(o *migrate.ObservedStandby) {
			o.Ready, o.Tidy, o.Rollback = true, true, migrate.ObservedRollback{Asked: true, Begun: true, Written: "w"}
		}, migrate.RollBackRound},
		"rolled back": {func(o *migrate.ObservedStandby) {
			o.Ready, o.Tidy, o.Rollback = true, true, migrate.ObservedRollback{Asked: true, Begun: true, Done: true}
		}, migrate.RestStandby},
		"writes come back after the epoch": {func(o *migrate.ObservedStandby) {
			o.Ready, o.Tidy, o.Planned, o.Rollback = true, true, true, migrate.ObservedRollback{Asked: true, BringWrites: true}
		}, migrate.RaiseEpoch},
		"writes come back": {func(o *migrate.ObservedStandby) {
			o.Ready, o.Tidy, o.Planned, o.Raised, o.Rollback = true, true, true, true, migrate.ObservedRollback{Asked: true, BringWrites: true}
		}, migrate.BringWrites},
		"writes cannot come back": {func(o *migrate.ObservedStandby) {
			o.Ready, o.Tidy, o.Planned, o.Rollback = true, true, true, migrate.ObservedRollback{Asked: true, BringWrites: true, Refused: true}
		}, migrate.RestStandby},
		"writes have no way back": {func(o *migrate.ObservedStandby) {
			o.Ready, o.Tidy, o.PairFound, o.Rollback = true, true, false, migrate.ObservedRollback{Asked: true, BringWrites: true}
		}, migrate.WaitForPair},
		"writes are back": {func(o *migrate.ObservedStandby) {
			o.Ready, o.Tidy, o.Planned, o.Raised, o.Rollback = true, true, true, true, migrate.ObservedRollback{Asked: true, BringWrites: true, Brought: true}
		}, migrate.RollBackRound},
		"an activation is not rolled back": {func(o *migrate.ObservedStandby) {
			o.Ready, o.Tidy, o.Activate, o.RoundChosen, o.Raised, o.Rollback.Asked = true, true, true, true, true, true
		}, migrate.RestStandby},
		"a stage has nothing to roll back": {func(o *migrate.ObservedStandby) { o.Ready, o.Tidy, o.Stage, o.Rollback.Asked = true, true, true, true }, migrate.RestStandby},
		"deleted: a rollback ends first": {func(o *migrate.ObservedStandby) {
			o.Deleting, o.Ready, o.Tidy, o.Rollback = true, true, true, migrate.ObservedRollback{Asked: true, Begun: true}
		}, migrate.RollBackRound},
		"deleted and taken back": {func(o *migrate.ObservedStandby) { o.Deleting, o.TakenBack, o.Tidy = true, true, true }, migrate.LetGoStandby},
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

// TestAheadOfASealedRound sees that a round may be taken while the target still brings
// the last one forward, that the target gets one after the other, and that whatever
// moves the application waits.
func TestAheadOfASealedRound(t *testing.T) {
	t.Parallel()
	now := time.Now()
	last := migrate.Sibling{Name: "last", Created: now, Stage: true, Admitted: true, Sealed: true, Begun: true}
	next := migrate.Sibling{Name: "next", Created: now.Add(time.Second), Stage: true}
	unsealed, moves, moved, over := last, next, last, last
	unsealed.Sealed, unsealed.Begun, moves.Stage, moved.Stage, over.Over = false, false, false, false, true
	for name, c := range map[string]struct {
		me, other migrate.Sibling
		source    bool
		target    bool
	}{
		"a round after a sealed one":        {next, last, false, true},
		"a round after one that is stored":  {next, unsealed, true, true},
		"a move after a sealed round":       {moves, last, true, true},
		"a round after a move":              {next, moved, true, true},
		"a round after one that is over":    {next, over, false, false},
		"a sealed round before the next":    {last, next, false, false},
		"a stored round before a new one":   {unsealed, next, false, false},
		"a sealed round before the made-up": {last, moves, false, false},
	} {
		source, target := migrate.Ahead(c.me, []migrate.Sibling{c.other}), migrate.AheadOnTarget(c.me, []migrate.Sibling{c.other})
		if (source != "") != c.source || (target != "") != c.target {
			t.Errorf("%s: waits for %q on the source and for %q on the target", name, source, target)
		}
	}
}

// TestAhead sees that of any set of siblings exactly one waits for nobody.
func TestAhead(t *testing.T) {
	t.Parallel()
	now := time.Now()
	// In the order of their turns.
	all := []migrate.Sibling{
		{Name: "begun", UID: "4", Created: now.Add(time.Hour), Admitted: true, Begun: true},
		{Name: "admitted", UID: "3", Created: now, Admitted: true},
		{Name: "old", UID: "1", Created: now.Add(-time.Hour)},
		{Name: "twin", UID: "2", Created: now.Add(-time.Hour)},
	}
	over := migrate.Sibling{Name: "over", Over: true, Begun: true}
	for bits := 1; bits < 1<<len(all); bits++ {
		var some []migrate.Sibling
		for i := range all {
			if bits&(1<<i) != 0 {
				some = append(some, all[i])
			}
		}
		for i, me := range some {
			others := slices.Concat([]migrate.Sibling{over}, some[:i], some[i+1:])
			if ahead := migrate.Ahead(me, others); (ahead == "") != (i == 0) {
				t.Errorf("of %v, %s waits for %q", some, me.Name, ahead)
			}
		}
	}
}
