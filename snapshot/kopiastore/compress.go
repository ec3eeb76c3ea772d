package kopiastore

import "github.com/klauspost/compress/s2"

const (
	sampleSize  = 4 << 10
	sampleCount = 4
	// worthwhile is the share of a sample's size, in percent, that it must
	// shrink to before the whole is worth the time.
	worthwhile = 94
)

// shrinks guesses by a fast compression of a few samples whether the slower
// one pays.
func shrinks(data []byte) bool {
	sample := data
	if len(data) > sampleCount*sampleSize {
		sample = make([]byte, 0, sampleCount*sampleSize)
		step := (len(data) - sampleSize) / (sampleCount - 1)
		for i := range sampleCount {
			sample = append(sample, data[i*step:i*step+sampleSize]...)
		}
	}
	return len(s2.Encode(nil, sample))*100 < len(sample)*worthwhile
}
