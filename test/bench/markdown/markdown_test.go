package markdown_test

import (
	"testing"

	"github.com/godwit-io/godwit/test/bench/markdown"
)

func TestTable(t *testing.T) {
	t.Parallel()
	got := markdown.Table([][]string{{"a", "wall"}, {"größer", "1"}})
	if want := "| a      | wall |\n| ------ | ---- |\n| größer | 1    |\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
