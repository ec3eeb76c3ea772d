// Package quantity owns how sizes and spans of time read on a terminal.
//
// It never rounds a size up to a whole: 100 % is written only for all of it.
package quantity

import (
	"fmt"
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
