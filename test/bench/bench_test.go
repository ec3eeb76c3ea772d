package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVersionsOfTheImage(t *testing.T) {
	dir := t.TempDir()
	i, err := makeImage(dir, smallestImage)
	if err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(dir, "kept")
	content, err := os.ReadFile(i.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kept, content, 0o600); err != nil {
		t.Fatal(err)
	}
	for version := 1; version < versions; version++ {
		if err := i.become(version); err != nil {
			t.Fatal(err)
		}
		if err := sameContent(i.path, kept); err == nil {
			t.Errorf("version %d is version 0", version)
		}
		changed := int64(0)
		for _, p := range i.changes(0, version) {
			changed += p.length
			if p.offset%(2*runLength)+p.length > runLength {
				t.Errorf("the piece at %d is in a hole", p.offset)
			}
		}
		if want := i.size / 2 / changedShare; changed < want || changed > want+largestPiece {
			t.Errorf("version %d changes %d bytes, want %d", version, changed, want)
		}
	}
	if err := i.become(0); err != nil {
		t.Fatal(err)
	}
	if err := sameContent(i.path, kept); err != nil {
		t.Errorf("version 0 came back otherwise: %v", err)
	}
}

func TestTextShrinksAsProseDoes(t *testing.T) {
	b := make([]byte, 1<<16)
	if _, err := io.ReadFull(newText(1), b); err != nil {
		t.Fatal(err)
	}
	if words := strings.Fields(string(b)); len(words) < 5000 {
		t.Errorf("%d words", len(words))
	}
}

func TestCountsTheAccessLog(t *testing.T) {
	const line = "k bench [23/November/2026:12:22:41 +0000] 127.0.0.1 k AO3D s3_%OP p/%KEY /bench/p/%KEY 200 - 0 188 0 0 - MinIO (linux; amd64) minio-go/v7.4.1 - x"
	m := measure{}
	m.countLine("log starts 2026-11-23 12:17:35")
	for _, c := range [][2]string{{"PutObject", "pabc"}, {"PutObject", "xn0_1"}, {"GetObject", "pabc"}, {"GetObject", "qabc"}, {"ListObjectsV2", "-"}} {
		m.countLine(strings.NewReplacer("%OP", c[0], "%KEY", c[1]).Replace(line))
	}
	if want := (measure{Requests: 5, DataReads: 1, Sent: 376, IndexSent: 188}); m.Requests != want.Requests || m.DataReads != want.DataReads || m.Sent != want.Sent || m.IndexSent != want.IndexSent {
		t.Errorf("counted %+v, want %+v", m, want)
	}
}

func TestJudge(t *testing.T) {
	r := &result{Runs: []runOf{
		{0, fullUpload, godwitName, measure{Wall: 1, CPU: 2, Memory: 200 * mib}}, {0, fullUpload, kopiaName, measure{Wall: 4, CPU: 4}},
		{1, fullUpload, godwitName, measure{Wall: 9}}, {1, fullUpload, kopiaName, measure{Wall: 10, CPU: 1}},
		{2, fullUpload, godwitName, measure{Wall: 3}}, {2, fullUpload, kopiaName, measure{Wall: 10, CPU: 1}},
		{0, unchanged, godwitName, measure{Wall: 3}}, {0, opening, godwitName, measure{Wall: 1.5}},
	}}
	verdicts := r.judge()
	if v := verdicts[0]; v.Found != "0.3 ×" || !v.Met || v.Compared != "time, kopia CLI" || v.CPU != "0 ×" {
		t.Errorf("against kopia: %+v", v)
	}
	if v := verdicts[1]; v.Measured || v.Met {
		t.Errorf("against one who took no part: %+v", v)
	}
	last := verdicts[len(verdicts)-3:]
	if last[0].Met || last[0].Found != "1.50 s" || !last[1].Met || !last[2].Met || last[2].Found != "200 MiB" {
		t.Errorf("unchanged and memory: %+v", last)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"1KiB": kib, "512MiB": 512 * mib, "16TiB": 16 * tib} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "8", "8GB", "-1GiB", "99999999TiB"} {
		if _, err := parseSize(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1536: "1.5 KiB", 8 * gib: "8 GiB"} {
		if got := sizeText(n); got != want {
			t.Errorf("%d is %s", n, got)
		}
	}
	if !math.IsNaN(median(nil)) || median([]float64{3, 1}) != 2 || median([]float64{9, 1, 2}) != 2 {
		t.Error("the median is wrong")
	}
}

func TestPlotIsXML(t *testing.T) {
	svg := plot([]growthPoint{{gib, 0.5, 100 * mib, 90 * kib, 1}, {16 * tib, 0.7, 120 * mib, 200 * kib, 1}})
	decoder := xml.NewDecoder(strings.NewReader(svg))
	circles := 0
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "circle" {
			circles++
		}
	}
	if circles != 6 {
		t.Errorf("%d points are drawn", circles)
	}
}

func TestQuotesIntoTheReadme(t *testing.T) {
	dir := t.TempDir()
	readme := filepath.Join(dir, "README.md")
	if err := os.WriteFile(readme, []byte("before\n"+quoteBegin+"old\n"+quoteEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &result{Size: gib, Rounds: 1, Runs: []runOf{{0, fullUpload, godwitName, measure{Wall: 1}}, {0, fullUpload, kopiaName, measure{Wall: 4}}}, Note: "busy"}
	r.Goals = r.judge()
	page := filepath.Join(dir, "docs", "performance.md")
	if err := errors.Join(os.Mkdir(filepath.Dir(page), 0o750), os.WriteFile(page, []byte("old\n"+objectsBegin+"of objects\n"+objectsEnd), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{"busy", "old\n"}, {"", "0.25 ×"}} {
		note, want := c[0], c[1]
		r.Note = note
		if err := r.writeDocs(filepath.Join(dir, "docs")); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(readme)
		if err != nil || !strings.Contains(string(got), want) {
			t.Errorf("with note %q: %v\n%s", note, err, got)
		}
		if !strings.HasPrefix(string(got), "before\n") || !strings.HasSuffix(string(got), quoteEnd+"after\n") {
			t.Errorf("the rest of the page changed:\n%s", got)
		}
		if got, err := os.ReadFile(page); err != nil || strings.Count(string(got), objectsBegin+"of objects\n"+objectsEnd) != 1 || strings.Contains(string(got), "old\n") {
			t.Errorf("what is said of objects is not kept: %v\n%s", err, got)
		}
	}
	if err := os.WriteFile(readme, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.writeDocs(filepath.Join(dir, "docs")); err == nil {
		t.Error("a page without a place for it is no error")
	}
}
