package log

import (
	"encoding/binary"
	"fmt"
	"path"

	"github.com/quorlog/quorlog/log/vfs"
)

// An .index is
//
//	+-----------+--------+--------+-  -  -+--------+-----------+
//	| header 64 | slot 0 | slot 1 |       | slot n | footer 96 |   slots of 32 bytes (slot.go); the footer comes at the roll
//	+-----------+--------+--------+-  -  -+--------+-----------+
//
//	header  0        8         12   16            24            32               60
//	        | magic  | version | 0  | base offset | first index | created, ms    | CRC32C |
//	footer  0        8         12      16          20  24         32              40          48           56         64  92
//	        | magic  | version | slots | slots CRC | 0 | log size | max timestamp | sealed ms | end offset | end index | ... | CRC32C |
//	        64           72         80         84
//	        | cleaned ms | clean to | aborted  | 0         of a segment that compaction wrote (clean.go)
//
// Slots are written after the fsync of the frames that they describe and are not fsynced themselves: a slot that proves
// itself is evidence that its frame was durable once, the absence of a slot says nothing. A checkpoint and the roll fsync
// them; from the roll on the footer's CRC covers them and they are trusted.
const (
	indexMagic     = "QLOGINDX"
	footerMagic    = "QLOGSEAL"
	indexHeadSize  = 64
	footerSize     = 96
	indexCRCOffset = indexHeadSize - 4
	footerCRC      = footerSize - 4
	// maxIndexBytes bounds what is mapped or read of one index: 32 Mi entries.
	maxIndexBytes = 1 << 30
)

// indexHead is the header of an index.
type indexHead struct {
	base    Offset
	first   Index
	created int64 // ms since 1970
}

func (h indexHead) encode() []byte {
	b := make([]byte, indexHeadSize)
	le := binary.LittleEndian
	copy(b, indexMagic)
	le.PutUint32(b[8:], fileVersion)
	le.PutUint64(b[16:], uint64(h.base))
	le.PutUint64(b[24:], uint64(h.first))
	le.PutUint64(b[32:], uint64(h.created))
	le.PutUint32(b[indexCRCOffset:], checksum(b[:indexCRCOffset]))
	return b
}

func decodeIndexHead(name string, b []byte) (indexHead, error) {
	if err := checkMagic(name, indexMagic, b); err != nil {
		return indexHead{}, err
	}
	le := binary.LittleEndian
	if len(b) < indexHeadSize || le.Uint32(b[indexCRCOffset:]) != checksum(b[:indexCRCOffset]) {
		return indexHead{}, fmt.Errorf("%w: %s: header", ErrCorrupt, name)
	}
	return indexHead{base: Offset(le.Uint64(b[16:])), first: Index(le.Uint64(b[24:])), created: int64(le.Uint64(b[32:]))}, nil
}

// footer is what the roll adds to an index.
type footer struct {
	slots   uint32
	crc     uint32
	logSize int64
	maxTS   int64
	sealed  int64 // ms since 1970
	end     segmentEnd

	// Of a segment that compaction wrote.
	cleanedAt int64  // ms since 1970; 0 for every other
	cleanTo   Offset // records below it are the newest of their keys up to the end of that pass
	txns      uint32 // records in the .txnindex
}

// cleaned reports whether compaction is done with a segment that ends at an offset.
func (f *footer) cleaned(end Offset) bool { return f.cleanedAt > 0 && f.cleanTo >= end }

func (f footer) encode() []byte {
	b := make([]byte, footerSize)
	le := binary.LittleEndian
	copy(b, footerMagic)
	le.PutUint32(b[8:], fileVersion)
	le.PutUint32(b[12:], f.slots)
	le.PutUint32(b[16:], f.crc)
	le.PutUint64(b[24:], uint64(f.logSize))
	le.PutUint64(b[32:], uint64(f.maxTS))
	le.PutUint64(b[40:], uint64(f.sealed))
	le.PutUint64(b[48:], uint64(f.end.offset))
	le.PutUint64(b[56:], uint64(f.end.index))
	le.PutUint64(b[64:], uint64(f.cleanedAt))
	le.PutUint64(b[72:], uint64(f.cleanTo))
	le.PutUint32(b[80:], f.txns)
	le.PutUint32(b[footerCRC:], checksum(b[:footerCRC]))
	return b
}

func decodeFooter(name string, b []byte) (footer, error) {
	if len(b) < magicSize || string(b[:magicSize]) != footerMagic {
		return footer{}, fmt.Errorf("%w: %s has no footer", ErrCorrupt, name)
	}
	if err := checkMagic(name, footerMagic, b); err != nil {
		return footer{}, err
	}
	le := binary.LittleEndian
	if len(b) < footerSize || le.Uint32(b[footerCRC:]) != checksum(b[:footerCRC]) {
		return footer{}, fmt.Errorf("%w: %s: footer", ErrCorrupt, name)
	}
	return footer{
		slots: le.Uint32(b[12:]), crc: le.Uint32(b[16:]), logSize: int64(le.Uint64(b[24:])),
		maxTS: int64(le.Uint64(b[32:])), sealed: int64(le.Uint64(b[40:])),
		end:       segmentEnd{offset: Offset(le.Uint64(b[48:])), index: Index(le.Uint64(b[56:]))},
		cleanedAt: int64(le.Uint64(b[64:])), cleanTo: Offset(le.Uint64(b[72:])), txns: le.Uint32(b[80:]),
	}, nil
}

// readFooter reads the end of an index file. ErrCorrupt where it has none.
func readFooter(f vfs.File, name string) (footer, error) {
	size, err := f.Size()
	if err != nil {
		return footer{}, err
	}
	if size < indexHeadSize+footerSize || size > maxIndexBytes || (size-indexHeadSize-footerSize)%slotSize != 0 {
		return footer{}, fmt.Errorf("%w: %s: %d bytes cannot be a sealed index", ErrCorrupt, name, size)
	}
	var b [footerSize]byte
	if err := readFull(f, b[:], size-footerSize); err != nil {
		return footer{}, err
	}
	ft, err := decodeFooter(name, b[:])
	if err != nil {
		return footer{}, err
	}
	if int64(ft.slots)*slotSize != size-indexHeadSize-footerSize {
		return footer{}, fmt.Errorf("%w: %s: footer counts %d slots", ErrCorrupt, name, ft.slots)
	}
	return ft, nil
}

// mapIndex maps a sealed index and proves it: header, footer, slots' CRC, and that it describes a .log of logSize bytes.
// The mapping is the caller's to close.
func mapIndex(fs vfs.FS, file string, base Offset, first Index, logSize int64, next segmentEnd) (table, footer, vfs.Mapping, error) {
	name := path.Base(file)
	f, err := fs.Open(file)
	if err != nil {
		return table{}, footer{}, nil, err
	}
	defer f.Close()
	ft, err := readFooter(f, name)
	if err != nil {
		return table{}, footer{}, nil, err
	}
	slotBytes := int64(ft.slots) * slotSize
	m, err := fs.Map(file, indexHeadSize+slotBytes)
	if err != nil {
		return table{}, footer{}, nil, err
	}
	b := m.Bytes()
	h, err := decodeIndexHead(name, b)
	switch {
	case err != nil:
	case h.base != base || h.first != first:
		err = fmt.Errorf("%w: %s is the index of %d-%d", ErrCorrupt, name, h.base, h.first)
	case ft.end != next:
		err = fmt.Errorf("%w: %s ends at offset %d, index %d, the next segment begins at %d, %d", ErrCorrupt, name,
			ft.end.offset, ft.end.index, next.offset, next.index)
	case ft.logSize != logSize:
		err = fmt.Errorf("%w: %s was sealed over %d bytes, the log has %d", ErrCorrupt, name, ft.logSize, logSize)
	case checksum(b[indexHeadSize:]) != ft.crc:
		err = fmt.Errorf("%w: %s: wrong checksum of the slots", ErrCorrupt, name)
	}
	if err != nil {
		m.Close()
		return table{}, footer{}, nil, err
	}
	return flatTable(b[indexHeadSize:], int(ft.slots)), ft, m, nil
}

// readSlots reads what an index that is not sealed holds, for recovery: whole slots, none of them to be trusted. A
// missing, short or damaged file yields none; only a file of another format is an error.
func readSlots(fs vfs.FS, file string) (head indexHead, raw []byte, sealed bool, err error) {
	f, err := fs.Open(file)
	if isNotExist(err) {
		return indexHead{}, nil, false, nil
	}
	if err != nil {
		return indexHead{}, nil, false, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size < indexHeadSize || size > maxIndexBytes {
		return indexHead{}, nil, false, err
	}
	b := make([]byte, size)
	if err := readFull(f, b, 0); err != nil {
		return indexHead{}, nil, false, err
	}
	if head, err = decodeIndexHead(path.Base(file), b); err != nil {
		return indexHead{}, nil, false, refuseFormat(err)
	}
	if len(b) >= indexHeadSize+footerSize {
		_, err := decodeFooter(path.Base(file), b[len(b)-footerSize:])
		if refuseFormat(err) != nil {
			return indexHead{}, nil, false, err
		}
		if err == nil {
			b, sealed = b[:len(b)-footerSize], true
		}
	}
	b = b[indexHeadSize:]
	return head, b[:len(b)/slotSize*slotSize], sealed, nil
}
