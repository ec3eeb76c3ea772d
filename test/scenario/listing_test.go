package scenario

import (
	"strings"
	"testing"
)

// printed is what lister prints for a folder with a file of two names, one of
// them awkward, and a link.
func printed(change func(string) string) []byte {
	const text = ".|d|755|0:0|4096|1.5||3|10|8|" +
		"./a\nb|f|644|1000:0|70000|2.000000007||2|11|8|" +
		"./c|f|644|1000:0|70000|2.000000007||2|11|8|" +
		"./l|l|777|0:0|3|3.0|a b|1|12|0|" +
		"|" +
		"aaaa  ./a\nb|aaaa  ./c|" +
		"|" +
		"# file: a\\012b\nuser.x=0x01\n\n"
	return []byte(strings.ReplaceAll(change(text), "|", "\x00"))
}

func parsed(t *testing.T, change func(string) string) listing {
	t.Helper()
	l, err := parseListing(printed(change))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func same(s string) string { return s }

func swap(from, to string) func(string) string {
	return func(s string) string { return strings.Replace(s, from, to, 1) }
}

func TestParseListing(t *testing.T) {
	t.Parallel()
	l := parsed(t, same)
	want := entry{
		kind: "f", mode: "644", owner: "1000:0", size: 70000, modified: "2.000000007", links: 2,
		sameAs: "./a\nb", sparse: true, hash: "aaaa", attributes: "user.x=0x01",
	}
	if got := l["./a\nb"]; len(l) != 4 || got != want {
		t.Errorf("got %d entries and %+v, want %+v", len(l), got, want)
	}
	if err := l.compare(parsed(t, same)); err != nil {
		t.Errorf("a tree differs from itself: %v", err)
	}
}

func TestListingTellsEachDifference(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(string) string
		says   string
	}{
		"mode":       {swap("./c|f|644", "./c|f|600"), `"./c" differs: source mode=644, target mode=600`},
		"owner":      {swap("./l|l|777|0:0", "./l|l|777|7:0"), "owner=7:0"},
		"size":       {swap("./c|f|644|1000:0|70000", "./c|f|644|1000:0|70001"), "size=70001"},
		"moment":     {swap("2.000000007", "2.000000008"), "modified=2.000000008"},
		"link":       {swap("a b", "a"), "target=a"},
		"hard links": {swap("./c|f|644|1000:0|70000|2.000000007||2|11", "./c|f|644|1000:0|70000|2.000000007||2|13"), "same-as=./c"},
		"sparse":     {swap("|11|8|./c", "|11|200|./c"), "sparse=false"},
		"content":    {swap("aaaa  ./c", "bbbb  ./c"), "sha256=bbbb"},
		"attribute":  {swap("0x01", "0x02"), "user.x=0x02"},
		"missing":    {swap("./l|l|777|0:0|3|3.0|a b|1|12|0|", ""), `"./l" is missing`},
		"additional": {swap("./l|l", "./z|l|777|0:0|3|3.0|a b|1|12|0|./l|l"), `"./z" is on the target only`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := parsed(t, same).compare(parsed(t, c.change))
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

func TestListingThatIsCutShort(t *testing.T) {
	t.Parallel()
	whole := string(printed(same))
	for n := range len(whole) - len("# file: a\\012b\nuser.x=0x01\n\n") {
		if l, err := parseListing([]byte(whole[:n])); err == nil {
			t.Errorf("the first %d bytes are taken for a whole listing of %d entries", n, len(l))
		}
	}
}
