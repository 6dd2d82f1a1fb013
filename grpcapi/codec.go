package grpcapi

import (
	"fmt"
	"strings"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"

	"google.golang.org/grpc/encoding"
	codec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// maxParts bounds the records and headers of a request together. An empty one takes two bytes on the wire and fifty times that
// in memory: four megabytes of them would become two hundred.
const maxParts = 100_000

// text makes of a string that came by Kafka's protocol one that a message may have: to Kafka strings are bytes, and a message with one
// that is not UTF-8 can't be encoded at all.
func text(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

// guarded is gRPC's codec with a look at what is to be decoded, before it is.
type guarded struct{}

func protobuf() encoding.CodecV2 { return encoding.GetCodecV2(codec.Name) }

// Name implements encoding.CodecV2.
func (guarded) Name() string { return codec.Name }

// Marshal implements encoding.CodecV2. Messages have buffers of their own size: gRPC's pool has a mebibyte for what is larger than 32
// KiB, which is what each of a thousand streams holds whose client is slow.
func (guarded) Marshal(v any) (mem.BufferSlice, error) {
	a, ok := v.(*answer)
	if !ok {
		m, ok := v.(proto.Message)
		if !ok {
			return protobuf().Marshal(v)
		}
		b, err := proto.Marshal(m)
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	b, err := a.encoded, error(nil)
	if b == nil {
		b, err = proto.Marshal(a.message)
	}
	if err != nil || mem.IsBelowBufferPoolingThreshold(cap(b)) { // gRPC gives no notice of small buffers
		a.taken()
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	return mem.BufferSlice{mem.NewBuffer(&b, notice(a.taken))}, nil
}

// answer is a message that counts until the client has taken it.
type answer struct {
	message proto.Message
	encoded []byte // instead of it
	taken   func()
}

// notice is told that a buffer is needed no more.
type notice func()

// Get implements mem.BufferPool.
func (notice) Get(n int) *[]byte {
	b := make([]byte, n)
	return &b
}

// Put implements mem.BufferPool.
func (n notice) Put(*[]byte) { n() }

// Unmarshal implements encoding.CodecV2.
func (guarded) Unmarshal(data mem.BufferSlice, v any) error {
	var path []protowire.Number
	switch v.(type) {
	case *quorlogv1.ProduceRequest:
		path = []protowire.Number{3, 3} // records, their headers
	case *quorlogv1.ProduceStreamRequest:
		path = []protowire.Number{2, 3, 3} // batch, and as above
	case *quorlogv1.CommitOffsetsRequest:
		path = []protowire.Number{2} // offsets
	default:
		return small(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	left := maxParts
	if !count(buf.ReadOnlyData(), path, &left) {
		return fmt.Errorf("more than %d records and headers in one message", maxParts)
	}
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no message", v)
	}
	return proto.Unmarshal(buf.ReadOnlyData(), m)
}

// maxSmall bounds the requests that bring no records, in bytes.
const maxSmall = 64 << 10

func small(data mem.BufferSlice, v any) error {
	if data.Len() > maxSmall {
		return fmt.Errorf("%d bytes for a message that has at most %d", data.Len(), maxSmall)
	}
	return protobuf().Unmarshal(data, v)
}

// count takes the messages along a path of fields from what is left, and reports whether that was enough. Damaged bytes are the
// decoder's to refuse.
func count(b []byte, path []protowire.Number, left *int) bool {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return true
		}
		b = b[n:]
		size := protowire.ConsumeFieldValue(num, typ, b)
		if size < 0 {
			return true
		}
		if num == path[0] && typ == protowire.BytesType {
			if *left--; *left < 0 {
				return false
			}
			inner, _ := protowire.ConsumeBytes(b)
			if len(path) > 1 && !count(inner, path[1:], left) {
				return false
			}
		}
		b = b[size:]
	}
	return true
}
