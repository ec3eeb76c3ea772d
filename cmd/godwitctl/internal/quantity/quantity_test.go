package quantity

import (
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1<<20 - 1: "1.0 MiB", 3 << 29: "1.5 GiB",
		1<<63 - 1: "8.0 EiB", 5 << 40: "5.0 TiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 1900 * time.Millisecond: "1s", 5 * time.Minute: "5m0s", time.Hour + 61*time.Second: "1h1m1s",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestPercentIsWholeOnlyForAll(t *testing.T) {
	for _, c := range []struct {
		done, total int64
		want        int
	}{{0, 0, 0}, {5, 0, 0}, {-1, 5, 0}, {1, 3, 33}, {1<<62 - 1, 1 << 62, 99}, {7, 7, 100}, {9, 7, 100}} {
		if got := Percent(c.done, c.total); got != c.want {
			t.Errorf("Percent(%d, %d) = %d, want %d", c.done, c.total, got, c.want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "512": 512, "4k": 4096, "100MiB": 100 << 20, "1.5 GiB": 3 << 29, "10MB": 1e7, "1TB": 1e12,
	} {
		if got, err := ParseBytes(s); err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "MiB", "-1", "1x", "1 2", "1e30", "9999999999TiB"} {
		if got, err := ParseBytes(s); err == nil {
			t.Errorf("ParseBytes(%q) = %d", s, got)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{"90m": 90 * time.Minute, "30d": 720 * time.Hour, "2w": 336 * time.Hour, "0s": 0} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "d", "-1d", "1x", "-5m", "99999999d"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("ParseDuration(%q) = %s", s, got)
		}
	}
}
