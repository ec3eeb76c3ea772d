package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	tib = 1 << 40
)

// parseSize reads sizes such as 8GiB.
func parseSize(s string) (int64, error) {
	for _, unit := range []struct {
		suffix string
		factor int64
	}{{"TiB", tib}, {"GiB", gib}, {"MiB", mib}, {"KiB", kib}} {
		if digits, ok := strings.CutSuffix(s, unit.suffix); ok {
			n, err := strconv.ParseInt(digits, 10, 64)
			if err != nil || n <= 0 || n > math.MaxInt64/unit.factor {
				break
			}
			return n * unit.factor, nil
		}
	}
	return 0, fmt.Errorf("%q is no size: write it like 512MiB or 8GiB", s)
}

// sizeText is a size for a table.
func sizeText(n int64) string {
	for _, unit := range []struct {
		suffix string
		factor int64
	}{{"TiB", tib}, {"GiB", gib}, {"MiB", mib}, {"KiB", kib}} {
		if n >= unit.factor {
			text := strconv.FormatFloat(float64(n)/float64(unit.factor), 'f', 1, 64)
			return strings.TrimSuffix(text, ".0") + " " + unit.suffix
		}
	}
	return fmt.Sprintf("%d B", n)
}

// median of some numbers; of none it is not a number.
func median(numbers []float64) float64 {
	if len(numbers) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(numbers))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
