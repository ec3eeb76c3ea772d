package kopiastore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/kopia/kopia/repo/compression"
)

// lean makes what a compressor of kopia's makes, of a chunk at once. Kopia's compress
// streams of any length: each keeps megabytes for that, as many as chunks are compressed
// at once, and hands parts from goroutine to goroutine.
type lean struct {
	compression.Compressor
	// encode appends to an empty slice.
	encode func(to, from []byte) ([]byte, error)
	rooms  sync.Pool // of *leanRoom
}

type leanRoom struct {
	in  bytes.Buffer
	out []byte
}

// registerCompressors puts lean ones where kopia looks for its own.
func registerCompressors() {
	for name, encode := range map[compression.Name]func(to, from []byte) ([]byte, error){compressor: zstdEncoder(), hasty: s2Encoder()} {
		own := &lean{Compressor: compression.ByName[name], encode: encode, rooms: sync.Pool{New: func() any { return &leanRoom{} }}}
		compression.ByName[name], compression.ByHeaderID[own.HeaderID()] = own, own
	}
}

func zstdEncoder() func(to, from []byte) ([]byte, error) {
	encoders := sync.Pool{New: func() any {
		// The window first: the level would make its blocks half as large as a chunk,
		// and an encoder of several blocks keeps megabytes of history.
		encoder, err := zstd.NewWriter(nil, zstd.WithWindowSize(maxChunk), zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return err
		}
		return encoder
	}}
	return func(to, from []byte) ([]byte, error) {
		got := encoders.Get()
		encoder, ok := got.(*zstd.Encoder)
		if !ok {
			return nil, fmt.Errorf("make an encoder: %v", got)
		}
		defer encoders.Put(encoder)
		return encoder.EncodeAll(from, to), nil
	}
}

func s2Encoder() func(to, from []byte) ([]byte, error) {
	streams := sync.Pool{New: func() any { return s2.NewWriter(nil, s2.WriterConcurrency(1), s2.WriterBlockSize(smallChunk)) }}
	return func(to, from []byte) ([]byte, error) {
		w, ok := streams.Get().(*s2.Writer)
		if !ok {
			return nil, os.ErrInvalid
		}
		defer streams.Put(w)
		out := bytes.NewBuffer(to)
		w.Reset(out)
		if err := w.EncodeBuffer(from); err != nil {
			return nil, err
		}
		err := w.Close()
		return out.Bytes(), err
	}
}

// Compress writes the number of the compressor, and what it makes of the input.
func (c *lean) Compress(output io.Writer, input io.Reader) error {
	room, ok := c.rooms.Get().(*leanRoom)
	if !ok {
		return os.ErrInvalid
	}
	defer c.rooms.Put(room)
	room.in.Reset()
	if _, err := room.in.ReadFrom(input); err != nil {
		return fmt.Errorf("read what is to be compressed: %w", err)
	}
	if err := binary.Write(output, binary.BigEndian, uint32(c.HeaderID())); err != nil {
		return err
	}
	var err error
	if room.out, err = c.encode(room.out[:0], room.in.Bytes()); err != nil {
		return err
	}
	_, err = output.Write(room.out)
	return err
}
