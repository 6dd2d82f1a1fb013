package log

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"path"

	"github.com/quorlog/quorlog/log/vfs"
)

// Side files (everything but .log) are little-endian and come in one envelope, so that a reader can tell a foreign file, a
// newer one and a damaged one apart:
//
//	+---------+-----------+--------- - - - ---------+----------+
//	| magic 8 | version 4 | payload                 | CRC32C 4 |   the CRC covers everything before it
//	+---------+-----------+--------- - - - ---------+----------+
//
// .index and .txnindex grow in place and have an envelope of their own (index.go, txnindex.go).

// fileVersion is the format version of every side file. They are raised together: one number to document and to refuse.
const fileVersion = 1

const (
	magicSize     = 8
	envelopeHead  = magicSize + 4
	envelopeBytes = envelopeHead + 4
	// maxSideFile bounds what is read into memory from one side file: a million producers take about 250 MB.
	maxSideFile = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func crcUpdate(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }

// encoder appends little-endian fields.
type encoder struct{ b []byte }

func (e *encoder) u8(v uint8)      { e.b = append(e.b, v) }
func (e *encoder) u16(v uint16)    { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32)    { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64)    { e.b = binary.LittleEndian.AppendUint64(e.b, v) }
func (e *encoder) i64(v int64)     { e.u64(uint64(v)) }
func (e *encoder) offset(v Offset) { e.u64(uint64(v)) }
func (e *encoder) index(v Index)   { e.u64(uint64(v)) }
func (e *encoder) epoch(v Epoch)   { e.u32(uint32(v)) }
func (e *encoder) bytes(v []byte)  { e.u32(uint32(len(v))); e.b = append(e.b, v...) }
func (e *encoder) begin(magic string) {
	e.b = append(e.b, magic...)
	e.u32(fileVersion)
}
func (e *encoder) finish() []byte { e.u32(checksum(e.b)); return e.b }

// decoder reads little-endian fields. After the first short read everything is zero and bad is set, so that a decoder is
// written without a check per field.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u8() uint8 {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if v := d.take(2); v != nil {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if v := d.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if v := d.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) i64() int64     { return int64(d.u64()) }
func (d *decoder) offset() Offset { return Offset(d.u64()) }
func (d *decoder) index() Index   { return Index(d.u64()) }
func (d *decoder) epoch() Epoch   { return Epoch(d.u32()) }

func (d *decoder) bytes() []byte {
	v := d.take(int(d.u32()))
	if len(v) == 0 {
		return nil
	}
	return append([]byte(nil), v...)
}

// count reads the length of a list whose elements take at least size bytes each, and refuses one that cannot be there:
// the caller allocates by it.
func (d *decoder) count(size int) int {
	n := int(d.u32())
	if d.bad || n > len(d.b)/size {
		d.bad = true
		return 0
	}
	return n
}

// done reports whether exactly everything was read.
func (d *decoder) done() bool { return !d.bad && len(d.b) == 0 }

// openEnvelope checks magic, version and CRC of a whole side file and returns a decoder of its payload. name is for the
// error only.
func openEnvelope(name, magic string, b []byte) (*decoder, error) {
	if err := checkMagic(name, magic, b); err != nil {
		return nil, err
	}
	if len(b) < envelopeBytes {
		return nil, fmt.Errorf("%w: %s is cut short", ErrCorrupt, name)
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if checksum(body) != sum {
		return nil, fmt.Errorf("%w: %s: wrong checksum", ErrCorrupt, name)
	}
	return &decoder{b: body[envelopeHead:]}, nil
}

// checkMagic tells a foreign or newer file (ErrFormat) from ours. A file too short to say is ErrCorrupt.
func checkMagic(name, magic string, b []byte) error {
	if len(b) < envelopeHead {
		return fmt.Errorf("%w: %s is cut short", ErrCorrupt, name)
	}
	if string(b[:magicSize]) != magic {
		return fmt.Errorf("%w: %s does not begin with %q", ErrFormat, name, magic)
	}
	if v := binary.LittleEndian.Uint32(b[magicSize:]); v != fileVersion {
		return fmt.Errorf("%w: %s has version %d; this build knows version %d", ErrFormat, name, v, fileVersion)
	}
	return nil
}

// readFile reads a whole side file.
func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > maxSideFile {
		return nil, fmt.Errorf("%w: %s: %d bytes is more than a side file can have", ErrCorrupt, path.Base(name), size)
	}
	b := make([]byte, size)
	if err := readFull(f, b, 0); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// readFull reads exactly len(b) bytes at off. io.EOF together with all bytes is success, as io.ReaderAt allows.
func readFull(f vfs.File, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// replaceFile puts data under name: temporary file, fsync, rename. The new name is durable after the caller's SyncDir.
func replaceFile(fs vfs.FS, name string, data []byte) error {
	tmp := name + tmpSuffix
	if err := fs.Remove(tmp); err != nil && !isNotExist(err) {
		return err
	}
	f, err := fs.Create(tmp)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return fs.Rename(tmp, name)
}
