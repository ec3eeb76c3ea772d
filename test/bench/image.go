package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const (
	// smallestImage has enough of everything to be measured.
	smallestImage = 64 * mib
	// runLength is how much of the image is allocated, or not, in one piece.
	runLength = 16 * mib
	// A change overwrites this share of what is allocated, in pieces.
	changedShare  = 100
	smallestPiece = 4 * kib
	largestPiece  = 64 * kib
	versions      = 3
)

// piece is a range that a version overwrites.
type piece struct{ offset, length int64 }

// image is the file that all peers store. Its version 0 is half holes, half
// data, and of that half noise and half text; each other version overwrites
// pieces of version 0.
type image struct {
	path    string
	size    int64
	version int
	pieces  [versions][]piece
	// original holds what the pieces of a version overwrite.
	original [versions]string
}

// makeImage writes version 0. The same size gives the same bytes.
func makeImage(dir string, size int64) (*image, error) {
	i := &image{path: filepath.Join(dir, "volume.img"), size: size}
	f, err := os.Create(i.path)
	if err != nil {
		return nil, fmt.Errorf("make the image: %w", err)
	}
	if err := errors.Join(i.fill(f), f.Close()); err != nil {
		return nil, fmt.Errorf("make the image: %w", err)
	}
	for v := 1; v < versions; v++ {
		i.original[v] = filepath.Join(dir, fmt.Sprintf("original-%d", v))
		if err := i.plan(v); err != nil {
			return nil, err
		}
	}
	return i, nil
}

func (i *image) fill(f *os.File) error {
	if err := f.Truncate(i.size); err != nil {
		return err
	}
	noise, words := newNoise(0), newText(0)
	buf := make([]byte, mib)
	for at, n := int64(0), 0; at < i.size; at, n = at+2*runLength, n+1 {
		content := io.Reader(noise)
		if n%2 == 1 {
			content = words
		}
		for off := at; off < min(at+runLength, i.size); off += int64(len(buf)) {
			if _, err := io.ReadFull(content, buf); err != nil {
				return err
			}
			if _, err := f.WriteAt(buf[:min(int64(len(buf)), i.size-off)], off); err != nil {
				return err
			}
		}
	}
	return nil
}

// plan chooses the pieces of a version, and keeps what is there now.
func (i *image) plan(version int) error {
	r := rand.New(rand.NewPCG(uint64(version), 7))
	in, err := os.Open(i.path)
	if err != nil {
		return fmt.Errorf("plan a change: %w", err)
	}
	out, err := os.Create(i.original[version])
	if err != nil {
		return errors.Join(fmt.Errorf("plan a change: %w", err), in.Close())
	}
	for left := i.size / 2 / changedShare; left > 0; {
		length := (smallestPiece + r.Int64N(largestPiece-smallestPiece+1)) / smallestPiece * smallestPiece
		run := r.Int64N(max(1, i.size/(2*runLength)))
		offset := run*2*runLength + r.Int64N((runLength-length)/smallestPiece)*smallestPiece
		if offset+length > i.size {
			continue
		}
		left -= length
		i.pieces[version] = append(i.pieces[version], piece{offset, length})
		if _, err := io.Copy(out, io.NewSectionReader(in, offset, length)); err != nil {
			return errors.Join(fmt.Errorf("plan a change: %w", err), in.Close(), out.Close())
		}
	}
	return errors.Join(in.Close(), out.Close())
}

// become makes the file hold a version.
func (i *image) become(version int) error {
	f, err := os.OpenFile(i.path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("change the image: %w", err)
	}
	if i.version != 0 {
		err = i.takeBack(f)
	}
	if err == nil && version != 0 {
		err = i.overwrite(f, version)
	}
	i.version = version
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("change the image: %w", err)
	}
	return nil
}

// takeBack writes what version 0 had, in any order: pieces that overlap have the
// same originals.
func (i *image) takeBack(f *os.File) error {
	in, err := os.Open(i.original[i.version])
	if err != nil {
		return err
	}
	at := int64(0)
	for _, p := range i.pieces[i.version] {
		if _, err := io.Copy(io.NewOffsetWriter(f, p.offset), io.NewSectionReader(in, at, p.length)); err != nil {
			return errors.Join(err, in.Close())
		}
		at += p.length
	}
	return in.Close()
}

func (i *image) overwrite(f *os.File, version int) error {
	noise, words := newNoise(byte(version)), newText(uint64(version))
	for n, p := range i.pieces[version] {
		content := io.Reader(noise)
		if n%2 == 1 {
			content = words
		}
		if _, err := io.CopyN(io.NewOffsetWriter(f, p.offset), content, p.length); err != nil {
			return err
		}
	}
	return nil
}

// changes are the pieces in which two versions differ.
func (i *image) changes(a, b int) []piece {
	return append(append([]piece{}, i.pieces[a]...), i.pieces[b]...)
}

// writeExtents lists pieces as godwitctl takes them.
func writeExtents(path string, pieces []piece) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("list extents: %w", err)
	}
	w := bufio.NewWriter(f)
	for _, p := range pieces {
		fmt.Fprintln(w, p.offset, p.length)
	}
	return errors.Join(w.Flush(), f.Close())
}

func newNoise(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

// text is words in a random order, which shrink about as prose does.
type text struct {
	r     *rand.Rand
	words [][]byte
}

func newText(seed uint64) *text {
	t := &text{r: rand.New(rand.NewPCG(seed, 1))}
	vocabulary := rand.New(rand.NewPCG(5, 5))
	for range 4096 {
		var raw [8]byte
		binary.LittleEndian.PutUint64(raw[:], vocabulary.Uint64())
		word := make([]byte, 2+vocabulary.IntN(9))
		for i := range word {
			word[i] = 'a' + raw[i%8]%26
		}
		t.words = append(t.words, append(word, ' '))
	}
	return t
}

// Read fills p with words. A few words are much more frequent than the others.
func (t *text) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		rank := t.r.IntN(len(t.words))
		n += copy(p[n:], t.words[rank*t.r.IntN(len(t.words))/len(t.words)])
	}
	return len(p), nil
}
