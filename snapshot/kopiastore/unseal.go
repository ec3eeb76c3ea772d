package kopiastore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/kopia/kopia/repo/compression"
	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/encryption"
	"github.com/kopia/kopia/repo/hashing"

	"github.com/godwit-io/godwit/snapshot"
)

const (
	// sealLength is what of a content's hash its encryption is bound to.
	sealLength = 16
	// headerLength is that of the number of the compressor, before its data.
	headerLength = 4
	// decodeSlack behind a chunk lets the decoder write in larger steps.
	decodeSlack = 64
)

// unsealer turns contents as packs hold them into chunks. Kopia's own reader
// would write each into a cache on disk first, for nobody to read again.
type unsealer struct {
	encryptor encryption.Encryptor
	hash      hashing.HashFunc
	zstd      *zstd.Decoder
	s2        sync.Pool // of *s2.Reader
}

func newUnsealer(encryptor encryption.Encryptor, hash hashing.HashFunc) (*unsealer, error) {
	// A chunk is decoded where its caller runs.
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(4*maxChunk))
	if err != nil {
		return nil, fmt.Errorf("make a decoder: %w", err)
	}
	u := &unsealer{encryptor: encryptor, hash: hash, zstd: decoder}
	u.s2.New = func() any { return s2.NewReader(nil, s2.ReaderAllocBlock(smallChunk)) }
	return u, nil
}

// room is what one goroutine unseals in.
type room struct{ packed, plain []byte }

// unseal decrypts and decompresses a content, into an empty slice with room for it and
// for decodeSlack. What comes out has the id that it is kept under, or an error is
// returned. Packed is memory for what is in between.
func (u *unsealer) unseal(sealed []byte, info content.Info, into []byte, packed *[]byte) ([]byte, error) {
	hash := info.ContentID.Hash()
	if len(hash) < sealLength || info.EncryptionKeyID != 0 {
		return nil, errors.New("it is encrypted in a way that this Godwit does not know: upgrade it")
	}
	in, out := ofFirst(u.encryptor.Decrypt), newOfThird(u.encryptor.Decrypt)
	defer out.Close()
	in.Slices = [][]byte{sealed}
	if err := u.encryptor.Decrypt(in, hash[len(hash)-sealLength:], out); err != nil {
		return nil, changed(err)
	}
	compressed := info.CompressionHeaderID != content.NoCompression
	data := into
	if compressed {
		*packed = spare(*packed, out.Length())
		data = *packed
	}
	for _, part := range out.Bytes().Slices {
		data = append(data, part...)
	}
	if compressed {
		var err error
		if data, err = u.decompress(data, info.CompressionHeaderID, into); err != nil {
			return nil, changed(err)
		}
	}
	if int64(len(data)) != int64(info.OriginalLength) || u.id(data) != info.ContentID.String() {
		return nil, changed(errors.New("its bytes have another hash"))
	}
	return data, nil
}

// spare is an empty buffer for so many bytes. One of that size starts at the
// beginning of a page, as devices like it.
func spare(b []byte, size int) []byte {
	if cap(b) < size {
		b = make([]byte, 0, max(size, smallChunk+decodeSlack))
	}
	return b[:0]
}

// id is the object id that kopia gives a chunk: the keyed hash of its bytes,
// whatever they are compressed or encrypted with.
func (u *unsealer) id(chunk []byte) string {
	in := ofSecond(u.hash)
	in.Slices = [][]byte{chunk}
	var sum [hashing.MaxHashSize]byte
	return fmt.Sprintf("%x", u.hash(sum[:0], in))
}

func (u *unsealer) decompress(packed []byte, id compression.HeaderID, into []byte) ([]byte, error) {
	if len(packed) < headerLength || binary.BigEndian.Uint32(packed) != uint32(id) {
		return nil, errors.New("it is not compressed as it says")
	}
	switch id {
	case compression.HeaderZstdFastest, compression.HeaderZstdDefault, compression.HeaderZstdBetterCompression, compression.HeaderZstdBestCompression:
		return u.zstd.DecodeAll(packed[headerLength:], into)
	case compression.ByName[hasty].HeaderID():
		return u.decodeS2(packed[headerLength:], into)
	}
	compressor := compression.ByHeaderID[id]
	if compressor == nil {
		return nil, fmt.Errorf("compressor %x is not known", id)
	}
	out := bytes.NewBuffer(into)
	err := compressor.Decompress(out, bytes.NewReader(packed), true)
	return out.Bytes(), err
}

// decodeS2 reads all of a stream into the room that there is; kopia's own would copy it
// twice more.
func (u *unsealer) decodeS2(packed, into []byte) ([]byte, error) {
	reader, ok := u.s2.Get().(*s2.Reader)
	if !ok {
		return nil, os.ErrInvalid
	}
	defer u.s2.Put(reader)
	reader.Reset(bytes.NewReader(packed))
	for {
		if len(into) == cap(into) {
			return nil, io.ErrShortBuffer
		}
		n, err := reader.Read(into[len(into):cap(into)])
		into = into[:len(into)+n]
		if errors.Is(err, io.EOF) {
			return into, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// changed says that what was read is not what was written.
func changed(err error) error {
	return fmt.Errorf("%w: the repository changed it; %s, and look for a faulty disk under the bucket: %w", snapshot.ErrCorrupt, mend, err)
}

// ofFirst, ofSecond and newOfThird make values of the types of a function's
// arguments. Kopia lets nobody name its list of bytes, only use it.
func ofFirst[A, B, C any](func(A, B, C) error) (value A) { return value }

func ofSecond[A, B, R any](func(A, B) R) (value B) { return value }

func newOfThird[A, B, C any](func(A, B, *C) error) *C { return new(C) }
