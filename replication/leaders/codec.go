package leaders

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// A frame, all numbers big-endian:
//
//	| version 1 | flags 1 | session 8 | sequence 8 | section ... |
//
// flags: bit 0 = a full push begins, bit 1 = a full push ends. A section is | kind 1 | length 4 | bytes |; a kind that a node
// does not know is skipped, so that nodes of different releases understand each other.
//
//	kind 1, the sender's status: | flags 1 | applied metadata index 8 | number 2 | node 4 ... | version of the release |
//	                             flags: bit 0 = low on space, bit 1 = draining; the nodes are those that it hears
//	kind 2, entries, each:       | topic id 16 | partition 4 | leader 4 | epoch 4 | by 4 | number 1 | node in sync 4 ... |
const (
	frameVersion = 1

	flagFirst = 1 << 0
	flagLast  = 1 << 1

	sectionStatus  = 1
	sectionEntries = 2

	statusLowSpace = 1 << 0
	statusDraining = 1 << 1

	// maxVersion is the longest text of a release that is kept, in bytes.
	maxVersion = 64
	// mostISR is what the count of an entry's replicas in sync has room for.
	mostISR = 255
)

// frame is one push, or a part of one.
type frame struct {
	session, seq uint64
	first, last  bool
	status       *wireStatus
	entries      []wireEntry
}

type wireStatus struct {
	NodeStatus
	hears []replication.NodeID
}

type wireEntry struct {
	Entry
	by replication.NodeID
}

func (f *frame) encode() []byte {
	var flags byte
	if f.first {
		flags |= flagFirst
	}
	if f.last {
		flags |= flagLast
	}
	b := []byte{frameVersion, flags}
	b = binary.BigEndian.AppendUint64(b, f.session)
	b = binary.BigEndian.AppendUint64(b, f.seq)
	if f.status != nil {
		b = section(b, sectionStatus, f.status.append)
	}
	if len(f.entries) > 0 {
		b = section(b, sectionEntries, func(b []byte) []byte {
			for i := range f.entries {
				b = f.entries[i].append(b)
			}
			return b
		})
	}
	return b
}

// section appends a section whose bytes fill appends.
func section(b []byte, kind byte, fill func([]byte) []byte) []byte {
	b = append(b, kind, 0, 0, 0, 0)
	from := len(b)
	b = fill(b)
	binary.BigEndian.PutUint32(b[from-4:], uint32(len(b)-from))
	return b
}

func (s *wireStatus) append(b []byte) []byte {
	var flags byte
	if s.LowSpace {
		flags |= statusLowSpace
	}
	if s.Draining {
		flags |= statusDraining
	}
	b = binary.BigEndian.AppendUint64(append(b, flags), s.MetaApplied)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.hears)))
	b = appendNodes(b, s.hears)
	return append(b, s.Version[:min(len(s.Version), maxVersion)]...)
}

func (e *wireEntry) append(b []byte) []byte {
	isr := e.ISR[:min(len(e.ISR), mostISR)]
	b = append(b, e.ID.Topic[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(e.ID.Partition))
	b = binary.BigEndian.AppendUint32(b, uint32(e.Leader.Node))
	b = binary.BigEndian.AppendUint32(b, uint32(e.Leader.Epoch))
	b = binary.BigEndian.AppendUint32(b, uint32(e.by))
	return appendNodes(append(b, byte(len(isr))), isr)
}

func appendNodes(b []byte, ids []replication.NodeID) []byte {
	for _, id := range ids {
		b = binary.BigEndian.AppendUint32(b, uint32(id))
	}
	return b
}

// errFrame: what a peer sent is no push of a release that this one knows.
var errFrame = errors.New("malformed push of leaders")

func decodeFrame(body []byte) (*frame, error) {
	r := reader{b: body}
	if v := r.u8(); v != frameVersion && !r.bad {
		return nil, fmt.Errorf("%w: version %d", errFrame, v)
	}
	flags := r.u8()
	f := &frame{session: r.u64(), seq: r.u64(), first: flags&flagFirst != 0, last: flags&flagLast != 0}
	for len(r.b) > 0 && !r.bad {
		kind := r.u8()
		in := reader{b: r.take(int64(r.u32()))}
		if r.bad {
			break
		}
		switch kind {
		case sectionStatus:
			f.status = in.status()
		case sectionEntries:
			for len(in.b) > 0 && !in.bad {
				f.entries = append(f.entries, in.entry())
			}
		}
		r.bad = r.bad || in.bad
	}
	if r.bad {
		return nil, errFrame
	}
	return f, nil
}

// reader takes numbers off bytes of a peer. After something that is not there, bad is set and all is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int64) []byte {
	if r.bad || n > int64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) nodes(n int) []replication.NodeID {
	b := r.take(4 * int64(n))
	if len(b) == 0 {
		return nil
	}
	ids := make([]replication.NodeID, n)
	for i := range ids {
		ids[i] = replication.NodeID(binary.BigEndian.Uint32(b[4*i:]))
	}
	return ids
}

func (r *reader) status() *wireStatus {
	flags := r.u8()
	s := &wireStatus{NodeStatus: NodeStatus{
		LowSpace: flags&statusLowSpace != 0, Draining: flags&statusDraining != 0, MetaApplied: r.u64(),
	}}
	s.hears = r.nodes(int(r.u16()))
	s.Version = string(r.b[:min(len(r.b), maxVersion)])
	r.b = nil
	return s
}

func (r *reader) entry() (e wireEntry) {
	copy(e.ID.Topic[:], r.take(int64(len(e.ID.Topic))))
	e.ID.Partition = int32(r.u32())
	e.Leader.Node = replication.NodeID(r.u32())
	e.Leader.Epoch = batch.Epoch(r.u32())
	e.by = replication.NodeID(r.u32())
	e.ISR = r.nodes(int(r.u8()))
	return e
}
