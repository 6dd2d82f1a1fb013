package transport

import (
	"bytes"
	"sync"

	"github.com/hashicorp/raft"
)

// Kinds of messages. The side that dialled sends requests, the other one answers.
const (
	kindOpen     = 1 // channel, group, from, to: names a pair of replicas for the rest of the connection
	kindAppend   = 2 // id, channel, term, previous index, its term, commit index, first index, count; entries' heads; data
	kindBeats    = 3 // id, count; channel, term for each
	kindVote     = 4 // id, channel, term, last index, its term, flags
	kindPreVote  = 5 // id, channel, term, last index, its term
	kindSnapshot = 6 // id, channel, term, version, last index, its term, configuration index, configuration; the rest is data
	kindCampaign = 7 // id, channel: raft.TimeoutNow
	kindCall     = 8 // id, milliseconds, name; the rest is the body
	kindCancel   = 9 // id of a call
	kindPing     = 10

	kindAnswer     = 16 // id, flags, term, last index
	kindFailure    = 17 // id, failure, text
	kindBeatsSeen  = 18 // id, count; position, flags, term, last index for each
	kindCallAnswer = 19 // id; the rest is the body
	kindCallError  = 20 // id, code, text
	kindPong       = 21
)

// Flags of requests and answers.
const (
	flagYes       = 1 // success, or the vote is granted
	flagNoBackoff = 2 // raft.AppendEntriesResponse.NoRetryBackoff
	flagFailed    = 4 // of a heartbeat: it could not be judged
	flagTransfer  = 1 // of a vote: raft.RequestVoteRequest.LeadershipTransfer
)

// Failures of requests, where the peer has no answer of Raft's.
const (
	failedOther  = 0
	failedBusy   = 1 // ErrBusy
	failedAbsent = 2 // no such replica there
)

const (
	maxName = 256 // bytes of a group, a replica, a call
	maxText = 4 << 10
	// copyBelow is up to what size an entry's data is copied beside the others instead of being a piece of its own for the
	// operating system: a piece costs more than copying two kilobytes.
	copyBelow = 2 << 10
)

// heads are buffers for what precedes the entries, and for small entries.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, 16<<10); return &b }}

// maxPooledHead is the largest buffer that is worth keeping.
const maxPooledHead = 1 << 20

func newHead(kind byte) []byte { return append(make([]byte, frameHead, 64), kind) }

func simple(kind byte, values ...uint64) frame {
	f := frame{head: appendNums(newHead(kind), values...)}
	f.seal()
	return f
}

// answer is what the other side said to a request.
type answer struct {
	flags byte
	term  uint64
	last  uint64
	body  []byte // of a call
}

func (a answer) yes() bool { return a.flags&flagYes != 0 }

// encodeAppend makes the message of an AppendEntries. Extensions stay here: they are marks of this process.
func encodeAppend(id, channel uint64, req *raft.AppendEntriesRequest) frame {
	head := (*heads.Get().(*[]byte))[:frameHead]
	head = append(head, kindAppend)
	first := uint64(0)
	if len(req.Entries) > 0 {
		first = req.Entries[0].Index
	}
	head = appendNums(head, id, channel, req.Term, req.PrevLogEntry, req.PrevLogTerm, req.LeaderCommitIndex, first, uint64(len(req.Entries)))
	for _, e := range req.Entries {
		head = appendNums(head, e.Term, uint64(e.Type), uint64(len(e.Data)))
	}
	f := frame{pool: true}
	// Small entries are copied behind the heads; from the first large one on, each is a piece of its own.
	for i, e := range req.Entries {
		switch {
		case len(e.Data) == 0:
		case f.tail == nil && len(e.Data) <= copyBelow:
			head = append(head, e.Data...)
		case f.tail == nil:
			f.tail = make([][]byte, 0, len(req.Entries)-i)
			f.tail = append(f.tail, e.Data)
		default:
			f.tail = append(f.tail, e.Data)
		}
	}
	f.head = head
	f.seal()
	return f
}

// release gives a frame's memory back once it is written.
func (f *frame) release() {
	if f.pool && cap(f.head) <= maxPooledHead {
		b := f.head[:0]
		heads.Put(&b)
	}
	f.head, f.tail = nil, nil
}

// parseAppend reads what encodeAppend wrote. The entries alias b.
func parseAppend(b []byte) (id, channel uint64, req *raft.AppendEntriesRequest, err error) {
	p := parser{b: b}
	p.byte()
	id, channel = p.num(), p.num()
	req = &raft.AppendEntriesRequest{Term: p.num(), PrevLogEntry: p.num(), PrevLogTerm: p.num(), LeaderCommitIndex: p.num()}
	first := p.num()
	n := p.count(3)
	logs := make([]raft.Log, n)
	req.Entries = make([]*raft.Log, n)
	lengths := make([]uint64, n)
	for i := range logs {
		logs[i] = raft.Log{Index: first + uint64(i), Term: p.num()}
		kind := p.num()
		if kind > uint64(raft.LogConfiguration) {
			p.fail()
		}
		logs[i].Type, lengths[i], req.Entries[i] = raft.LogType(kind), p.num(), &logs[i]
	}
	for i := range logs {
		if lengths[i] > 0 {
			logs[i].Data = p.take(lengths[i])
		}
	}
	return id, channel, req, p.end(kindAppend)
}

// encodeSnapshot makes the message of an InstallSnapshot.
func encodeSnapshot(id, channel uint64, req *raft.InstallSnapshotRequest, data []byte) frame {
	head := appendNums(newHead(kindSnapshot), id, channel, req.Term, uint64(req.SnapshotVersion), req.LastLogIndex, req.LastLogTerm, req.ConfigurationIndex)
	f := frame{head: appendBlob(head, req.Configuration), tail: [][]byte{data}}
	f.seal()
	return f
}

func parseSnapshot(b []byte) (id, channel uint64, req *raft.InstallSnapshotRequest, data []byte, err error) {
	p := parser{b: b}
	p.byte()
	id, channel = p.num(), p.num()
	req = &raft.InstallSnapshotRequest{Term: p.num()}
	version := p.num()
	if version > uint64(raft.SnapshotVersionMax) {
		p.fail()
	}
	req.SnapshotVersion = raft.SnapshotVersion(version)
	req.LastLogIndex, req.LastLogTerm, req.ConfigurationIndex = p.num(), p.num(), p.num()
	req.Configuration = bytes.Clone(p.blob())
	data = p.rest()
	req.Size = int64(len(data))
	return id, channel, req, data, p.end(kindSnapshot)
}

// encodeCall makes the message of a call.
func encodeCall(id, milliseconds uint64, name string, body []byte) frame {
	f := frame{head: appendBlob(appendNums(newHead(kindCall), id, milliseconds), name), tail: [][]byte{body}}
	f.seal()
	return f
}

// encodeFailure makes the answer to a request that could not be judged.
func encodeFailure(id uint64, failure byte, text string) frame {
	f := frame{head: appendBlob(appendNums(newHead(kindFailure), id, uint64(failure)), clip(text))}
	f.seal()
	return f
}

func encodeCallError(id uint64, code, text string) frame {
	if len(code) > maxName {
		code = code[:maxName]
	}
	f := frame{head: appendBlob(appendBlob(appendNums(newHead(kindCallError), id), code), clip(text))}
	f.seal()
	return f
}

func encodeCallAnswer(id uint64, body []byte) frame {
	f := frame{head: appendNums(newHead(kindCallAnswer), id), tail: [][]byte{body}}
	f.seal()
	return f
}

// clip shortens a text to what the other side reads.
func clip(text string) string { return text[:min(len(text), maxText)] }

// header is what Raft wants to see in every message of a replica.
func header(from string) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(from), Addr: []byte(from)}
}
