package cli

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/godwit-io/godwit/snapshot"
)

// readExtents reads lines of OFFSET LENGTH, as volume diff writes them. What
// lies outside the volume is of another one, or of another moment: refused.
func readExtents(file string, size int64) (_ []snapshot.Extent, err error) {
	in, err := os.Open(file) //nolint:gosec // the user names it
	if err != nil {
		return nil, fmt.Errorf("--extents: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	extents := []snapshot.Extent{}
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		e, err := extent(fields)
		if err != nil {
			return nil, fmt.Errorf("--extents: %s line %d: %w", file, n, err)
		}
		if e.Offset > size || e.Length > size-e.Offset {
			return nil, fmt.Errorf("--extents: %s line %d: %d bytes at %d are outside the volume of %d bytes: is it the list of another volume?",
				file, n, e.Length, e.Offset, size)
		}
		extents = append(extents, e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("--extents: read %s: %w", file, err)
	}
	return extents, nil
}

func extent(fields []string) (snapshot.Extent, error) {
	if len(fields) != 2 {
		return snapshot.Extent{}, errors.New("write OFFSET LENGTH, two numbers of bytes")
	}
	offset, bad1 := strconv.ParseInt(fields[0], 10, 64)
	length, bad2 := strconv.ParseInt(fields[1], 10, 64)
	if bad1 != nil || bad2 != nil || offset < 0 || length < 0 {
		return snapshot.Extent{}, errors.New("write OFFSET LENGTH, two numbers of bytes")
	}
	return snapshot.Extent{Offset: offset, Length: length}, nil
}
