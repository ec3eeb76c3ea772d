// Package quantity owns how sizes and spans of time read on a terminal, and how
// users write them.
//
// It never rounds a size up to a whole: 100 % is written only for all of it.
package quantity

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size with a binary unit and at most four digits, such as 1.2 GiB.
func Bytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, i := float64(n)/unit, 0
	const units = "KMGTPE"
	// 1023.95 would be written as 1024.0.
	for value >= 1023.95 && i < len(units)-1 {
		value /= unit
		i++
	}
	return fmt.Sprintf("%.1f %ciB", value, units[i])
}

// Duration is a span in whole seconds; none is negative.
func Duration(d time.Duration) string {
	return max(d, 0).Truncate(time.Second).String()
}

// Percent is how much of total is done, rounded down, within 0 and 100.
func Percent(done, total int64) int {
	if total <= 0 || done <= 0 {
		return 0
	}
	if done >= total {
		return 100
	}
	return min(int(float64(done)/float64(total)*100), 99)
}

// units are the factors that a size may be written with.
func units() map[string]float64 {
	return map[string]float64{
		"": 1, "B": 1, "K": 1 << 10, "KI": 1 << 10, "KIB": 1 << 10, "KB": 1e3, "M": 1 << 20, "MI": 1 << 20, "MIB": 1 << 20, "MB": 1e6,
		"G": 1 << 30, "GI": 1 << 30, "GIB": 1 << 30, "GB": 1e9, "T": 1 << 40, "TI": 1 << 40, "TIB": 1 << 40, "TB": 1e12,
	}
}

// ParseBytes reads a size such as 512, 100MiB or 1.5 GB.
func ParseBytes(s string) (int64, error) {
	text := strings.TrimSpace(s)
	end := strings.LastIndexAny(text, "0123456789.") + 1
	value, err := strconv.ParseFloat(text[:end], 64)
	factor, known := units()[strings.ToUpper(strings.TrimSpace(text[end:]))]
	if err != nil || !known || value < 0 || value*factor > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is no size: write it like 512, 100MiB or 1.5GB", s)
	}
	return int64(value * factor), nil
}

// ParseDuration reads a span such as 90m, 36h, 30d or 2w.
func ParseDuration(s string) (time.Duration, error) {
	for suffix, day := range map[string]int{"d": 1, "w": 7} {
		if digits, ok := strings.CutSuffix(s, suffix); ok {
			n, err := strconv.Atoi(digits)
			if err != nil || n < 0 || n > maxDays {
				return 0, fmt.Errorf("%q is no span of time: write it like 90m, 36h, 30d or 2w", s)
			}
			return time.Duration(n*day) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no span of time: write it like 90m, 36h, 30d or 2w", s)
	}
	return d, nil
}

// maxDays keeps weeks within what a time.Duration holds.
const maxDays = 15000
