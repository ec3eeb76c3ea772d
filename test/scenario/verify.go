package scenario

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Finding is what one comparison compared.
type Finding struct {
	// What was compared, and in a few words what both sides had.
	What, Detail string
}

// String is one line for people.
func (f Finding) String() string { return f.What + ": " + f.Detail }

// VerifyApp compares all of the full application. It goes on after a difference,
// so that one run tells everything.
func (g *Ground) VerifyApp(ctx context.Context, a App) ([]Finding, error) {
	var findings []Finding
	var problems []error
	for _, verify := range []func(context.Context, App) (Finding, error){
		g.VerifyRows, g.VerifyIndexes, g.VerifyLedger, g.VerifyUploads, g.VerifyFront,
	} {
		f, err := verify(ctx, a)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		findings = append(findings, f)
	}
	return findings, errors.Join(problems...)
}

// rowsOf prints the number and the hash of all rows up to an id.
const rowsOf = `psql -v ON_ERROR_STOP=1 -AtF ' ' -c "set timezone to 'UTC'" -c "select count(*),
  md5(string_agg(id || '|' || extract(epoch from at) || '|' || body, E'\n' order by id)) from entries where id <= %s" | tail -n 1`

const database = "statefulset/postgres"

// withServer makes psql reach the container's own server.
func withServer(script string) string { return "set -euo pipefail\nexport PGHOST=127.0.0.1\n" + script }

// VerifyRows compares the database's rows up to the last that the target has.
// The source goes on writing, so it has more.
func (g *Ground) VerifyRows(ctx context.Context, a App) (Finding, error) {
	const what = "rows of the database"
	out, err := g.Target.Script(ctx, a.Namespace, database, withServer(`psql -v ON_ERROR_STOP=1 -Atc "select coalesce(max(id), 0) from entries"`))
	if err != nil {
		return Finding{}, fmt.Errorf("%s: %w", what, err)
	}
	last := strings.TrimSpace(string(out))
	if n, err := strconv.Atoi(last); err != nil || n < 100000 {
		return Finding{}, fmt.Errorf("%s: the target's last id is %q: all of the 100000 rows of the beginning should be there", what, last)
	}
	source, err := g.Source.Script(ctx, a.Namespace, database, withServer(fmt.Sprintf(rowsOf, last)))
	if err != nil {
		return Finding{}, fmt.Errorf("%s: %w", what, err)
	}
	target, err := g.Target.Script(ctx, a.Namespace, database, withServer(fmt.Sprintf(rowsOf, last)))
	if err != nil {
		return Finding{}, fmt.Errorf("%s: %w", what, err)
	}
	have, want := strings.TrimSpace(string(target)), strings.TrimSpace(string(source))
	if have != want {
		return Finding{}, fmt.Errorf("%s: up to id %s the target has (count, md5) %s and the source %s", what, last, have, want)
	}
	count, hash, _ := strings.Cut(have, " ")
	return Finding{What: what, Detail: fmt.Sprintf("%s in both, md5 %s", count, hash)}, nil
}

// VerifyIndexes checks every table and index of the target's database against
// each other and against their checksums.
func (g *Ground) VerifyIndexes(ctx context.Context, a App) (Finding, error) {
	const what = "pg_amcheck on the target"
	script := withServer("pg_amcheck --all --heapallindexed --parent-check --rootdescend --verbose 2>&1")
	out, err := g.Target.Script(ctx, a.Namespace, database, script)
	if err != nil {
		return Finding{}, fmt.Errorf("%s: %w: %s", what, err, tail(withoutProgress(string(out)), 500))
	}
	tables, indexes := strings.Count(string(out), "checking heap table"), strings.Count(string(out), "checking btree index")
	if tables == 0 || indexes == 0 || !strings.Contains(string(out), "entries_pkey") {
		return Finding{}, fmt.Errorf("%s: it did not check the application's table: %s", what, tail(string(out), 500))
	}
	return Finding{What: what, Detail: fmt.Sprintf("clean, %d tables and %d indexes", tables, indexes)}, nil
}

// withoutProgress leaves only what pg_amcheck complains about.
func withoutProgress(said string) string {
	var complaints []string
	for l := range strings.Lines(said) {
		if !strings.HasPrefix(l, "pg_amcheck: ") || strings.Contains(l, "error:") {
			complaints = append(complaints, strings.TrimSpace(l))
		}
	}
	return strings.Join(complaints, "; ")
}

// VerifyLedger compares the raw volume byte for byte, by its hash.
func (g *Ground) VerifyLedger(ctx context.Context, a App) (Finding, error) {
	const what = "raw volume"
	const script = "set -euo pipefail\nblockdev --getsize64 /dev/ledger\nsha256sum < /dev/ledger\nhead -c 6 /dev/ledger"
	var said [2]string
	for i, c := range []Cluster{g.Source, g.Target} {
		out, err := c.Script(ctx, a.Namespace, "deployment/ledger", script)
		if err != nil {
			return Finding{}, fmt.Errorf("%s: %w", what, err)
		}
		said[i] = strings.Join(strings.Fields(string(out)), " ")
	}
	if said[0] != said[1] {
		return Finding{}, fmt.Errorf("%s: (bytes, sha256, first bytes) are %s in the source and %s in the target", what, said[0], said[1])
	}
	fields := strings.Fields(said[0])
	if len(fields) != 4 || fields[3] != "GODWIT" {
		return Finding{}, fmt.Errorf("%s: it does not hold the ledger's bytes: %s", what, said[0])
	}
	return Finding{What: what, Detail: fmt.Sprintf("%s bytes in both, sha256 %s", fields[0], fields[1])}, nil
}

// VerifyUploads compares the shared tree, names, metadata and contents.
func (g *Ground) VerifyUploads(ctx context.Context, a App) (Finding, error) {
	f, err := g.VerifyTree(ctx, a.Uploads())
	f.What = "shared tree"
	if err != nil {
		return f, fmt.Errorf("shared tree: %w", err)
	}
	return f, nil
}

// VerifyTree compares the tree in both clusters.
func (g *Ground) VerifyTree(ctx context.Context, t Tree) (Finding, error) {
	source, err := t.list(ctx, g.Source)
	if err != nil {
		return Finding{}, err
	}
	target, err := t.list(ctx, g.Target)
	if err != nil {
		return Finding{}, err
	}
	if err := source.compare(target); err != nil {
		return Finding{}, err
	}
	return Finding{What: "tree " + t.Folder, Detail: source.summary()}, nil
}

// VerifyFront asks the target's front end over HTTP for the number of rows, and
// the target's database for the same.
func (g *Ground) VerifyFront(ctx context.Context, a App) (Finding, error) {
	const what = "front end of the target"
	// Through the API server, which reaches Services wherever this runs.
	answer, err := g.Target.Kubectl(ctx, "get", "--raw", "/api/v1/namespaces/"+a.Namespace+"/services/front:80/proxy/cgi-bin/count")
	if err != nil {
		return Finding{}, fmt.Errorf("%s: %w", what, err)
	}
	out, err := g.Target.Script(ctx, a.Namespace, database, withServer(`psql -v ON_ERROR_STOP=1 -Atc "select count(*) from entries"`))
	if err != nil {
		return Finding{}, fmt.Errorf("%s: %w", what, err)
	}
	have, want := strings.TrimSpace(answer), strings.TrimSpace(string(out))
	if have != want {
		return Finding{}, fmt.Errorf("%s: it answers %q, and the database has %s rows", what, have, want)
	}
	return Finding{What: what, Detail: "it answers over HTTP, " + have + " rows"}, nil
}
