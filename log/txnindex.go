package log

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/quorlog/quorlog/log/vfs"
)

// A .txnindex lists the aborted transactions whose markers lie in its segment, in the order of the markers:
//
//	+-----------+----------+----------+- - -
//	| header 32 | record 0 | record 1 |         records of 40 bytes
//	+-----------+----------+----------+- - -
//
//	header  0        8         12            20            28       32
//	        | magic  | version | base offset | first index | CRC32C |
//	record  0             8              16              24                    32       36
//	        | producer id | first offset | marker offset | last stable offset | CRC32C | 0 |
//
// It belongs to the applied view. Records are written without fsync when their marker is applied; a checkpoint fsyncs the
// file and notes how many records it holds. What lies behind that count is written again, byte for byte the same, when
// the entries above the checkpointed commit index are applied again after a restart.
const (
	txnMagic      = "QLOGTXNS"
	txnHeadSize   = 32
	txnRecordSize = 40
)

// txnRecord is an aborted transaction. lastStable is the last stable offset once it was over: every transaction that ends
// later began at or above it, which is where a search may stop.
type txnRecord struct {
	AbortedTxn
	lastStable Offset
}

func (r txnRecord) encode() []byte {
	b := make([]byte, txnRecordSize)
	le := binary.LittleEndian
	le.PutUint64(b, uint64(r.ProducerID))
	le.PutUint64(b[8:], uint64(r.FirstOffset))
	le.PutUint64(b[16:], uint64(r.LastOffset))
	le.PutUint64(b[24:], uint64(r.lastStable))
	le.PutUint32(b[32:], checksum(b[:32]))
	return b
}

func decodeTxnRecord(b []byte) (r txnRecord, ok bool) {
	le := binary.LittleEndian
	if len(b) < txnRecordSize || le.Uint32(b[32:]) != checksum(b[:32]) {
		return r, false
	}
	r.ProducerID, r.FirstOffset = int64(le.Uint64(b)), Offset(le.Uint64(b[8:]))
	r.LastOffset, r.lastStable = Offset(le.Uint64(b[16:])), Offset(le.Uint64(b[24:]))
	return r, true
}

// txnIndex is a segment's .txnindex.
type txnIndex struct {
	seg *segment
	// durable is how many records the checkpoint promises; set before the segment is shared.
	durable int
	// records is nil until they were read. The slice only grows; readers keep the header that they loaded.
	records atomic.Pointer[[]txnRecord]

	// io is held while the file is read at first use and while Apply or a checkpoint writes it.
	io struct {
		sync.Mutex
		file  vfs.File
		dirty bool
	}
}

func (t *txnIndex) init(s *segment) { t.seg = s }

// count is how many aborted transactions are known, without reading the file.
func (t *txnIndex) count() int {
	if r := t.records.Load(); r != nil {
		return len(*r)
	}
	return t.durable
}

// load returns the records, reading them at first use.
func (t *txnIndex) load() ([]txnRecord, error) {
	if r := t.records.Load(); r != nil {
		return *r, nil
	}
	t.io.Lock()
	defer t.io.Unlock()
	return t.loadLocked()
}

func (t *txnIndex) loadLocked() ([]txnRecord, error) {
	if r := t.records.Load(); r != nil {
		return *r, nil
	}
	recs, err := readTxns(t.seg.fs, t.seg.path(txnSuffix), t.seg.name()+txnSuffix, t.durable)
	if err != nil {
		return nil, t.seg.missing(err)
	}
	t.records.Store(&recs)
	return recs, nil
}

// readTxns reads the first n records of a .txnindex; all of them for n < 0.
func readTxns(fs vfs.FS, file, name string, n int) ([]txnRecord, error) {
	if n == 0 {
		return nil, nil
	}
	b, err := readFile(fs, file)
	if err != nil {
		return nil, err
	}
	if err := checkMagic(name, txnMagic, b); err != nil {
		return nil, err
	}
	if len(b) < txnHeadSize || binary.LittleEndian.Uint32(b[28:]) != checksum(b[:28]) {
		return nil, fmt.Errorf("%w: %s: header", ErrCorrupt, name)
	}
	b = b[txnHeadSize:]
	if n < 0 {
		n = len(b) / txnRecordSize
	}
	if n > len(b)/txnRecordSize {
		return nil, fmt.Errorf("%w: %s holds fewer than the %d records of the checkpoint", ErrCorrupt, name, n)
	}
	recs := make([]txnRecord, n)
	for i := range recs {
		var ok bool
		if recs[i], ok = decodeTxnRecord(b[i*txnRecordSize:]); !ok {
			return nil, fmt.Errorf("%w: %s: record %d", ErrCorrupt, name, i)
		}
	}
	return recs, nil
}

func encodeTxnHead(base Offset, first Index) []byte {
	b := make([]byte, txnHeadSize)
	le := binary.LittleEndian
	copy(b, txnMagic)
	le.PutUint32(b[8:], fileVersion)
	le.PutUint64(b[12:], uint64(base))
	le.PutUint64(b[20:], uint64(first))
	le.PutUint32(b[28:], checksum(b[:28]))
	return b
}

// add writes one record behind the others.
func (t *txnIndex) add(r txnRecord) error {
	t.io.Lock()
	defer t.io.Unlock()
	recs, err := t.loadLocked()
	if err != nil {
		return err
	}
	if err := t.openLocked(); err != nil {
		return err
	}
	if _, err := t.io.file.WriteAt(r.encode(), txnHeadSize+int64(len(recs))*txnRecordSize); err != nil {
		return err
	}
	t.io.dirty = true
	recs = append(recs, r)
	t.records.Store(&recs)
	return nil
}

func (t *txnIndex) openLocked() error {
	if t.io.file != nil {
		return nil
	}
	name := t.seg.path(txnSuffix)
	f, err := t.seg.fs.Open(name)
	if isNotExist(err) {
		f, err = t.seg.fs.Create(name)
	}
	if err != nil {
		return err
	}
	// The header is written again over the same bytes where the file was there: a crash may have left it without one.
	if _, err := f.WriteAt(encodeTxnHead(t.seg.base, t.seg.first), 0); err != nil {
		f.Close()
		return err
	}
	t.io.file = f
	return nil
}

// sync makes what was added durable; the file's name needs a SyncDir of its own when synced is true.
func (t *txnIndex) sync() (synced bool, err error) {
	t.io.Lock()
	defer t.io.Unlock()
	if !t.io.dirty {
		return false, nil
	}
	if err := t.io.file.Sync(); err != nil {
		return false, err
	}
	t.io.dirty = false
	return true, nil
}

func (t *txnIndex) close() {
	t.io.Lock()
	defer t.io.Unlock()
	if t.io.file != nil {
		t.io.file.Close()
		t.io.file = nil
	}
}

// takeOver moves everything from another object of the same file.
func (t *txnIndex) takeOver(old *txnIndex) {
	old.io.Lock()
	defer old.io.Unlock()
	t.durable = old.durable
	t.records.Store(old.records.Load())
	t.io.file, t.io.dirty = old.io.file, old.io.dirty
	old.io.file = nil
}
