package grpcapi

import (
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

func encoded(t *testing.T, m proto.Message) mem.BufferSlice {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}
}

// Messages of many parts that are nearly nothing on the wire are refused before they take memory.
func TestGuardedCodec(t *testing.T) {
	empty := make([]*quorlogv1.Record, maxParts)
	headers := make([]*quorlogv1.Header, maxParts)
	for i := range empty {
		empty[i], headers[i] = &quorlogv1.Record{}, &quorlogv1.Header{}
	}
	one := []*quorlogv1.Record{{Headers: headers}}
	for name, c := range map[string]struct {
		in, out proto.Message
		fits    bool
	}{
		"records":          {&quorlogv1.ProduceRequest{Records: empty}, &quorlogv1.ProduceRequest{}, true},
		"a record more":    {&quorlogv1.ProduceRequest{Records: append(empty, &quorlogv1.Record{})}, &quorlogv1.ProduceRequest{}, false},
		"headers":          {&quorlogv1.ProduceRequest{Records: one}, &quorlogv1.ProduceRequest{}, false},
		"in a stream":      {&quorlogv1.ProduceStreamRequest{Batch: &quorlogv1.ProduceRequest{Records: one}}, &quorlogv1.ProduceStreamRequest{}, false},
		"a large question": {&quorlogv1.ConsumeRequest{Topic: string(make([]byte, maxSmall))}, &quorlogv1.ConsumeRequest{}, false},
		"a small one":      {&quorlogv1.ConsumeRequest{Topic: "t"}, &quorlogv1.ConsumeRequest{}, true},
		"many settings": {
			&quorlogv1.CreateTopicRequest{Config: map[string]string{"retention.ms": string(make([]byte, maxSmall))}}, &quorlogv1.CreateTopicRequest{}, false,
		},
	} {
		err := guarded{}.Unmarshal(encoded(t, c.in), c.out)
		if (err == nil) != c.fits {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && !proto.Equal(c.in, c.out) {
			t.Errorf("%s came out as something else", name)
		}
	}
	if err := (guarded{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer("\x1a\xff\xff\xff\x0f")}, &quorlogv1.ProduceRequest{}); err == nil {
		t.Error("damaged bytes are taken")
	}
}

// An answer counts until its bytes are let go, however large it is.
func TestAnswerCounts(t *testing.T) {
	for _, size := range []int{0, 1, 100_000} {
		taken := 0
		want := &quorlogv1.ConsumeResponse{Records: []*quorlogv1.Record{{Value: make([]byte, size)}}}
		data, err := guarded{}.Marshal(&answer{message: want, taken: func() { taken++ }})
		if err != nil {
			t.Fatal(err)
		}
		if size > 1000 && taken != 0 {
			t.Errorf("%d bytes are taken before they are let go", size)
		}
		got := new(quorlogv1.ConsumeResponse)
		if err := (guarded{}).Unmarshal(data, got); err != nil && size < maxSmall || size < maxSmall && !proto.Equal(got, want) {
			t.Errorf("%d bytes: %v", size, err)
		}
		data.Free()
		if taken != 1 {
			t.Errorf("%d bytes were taken %d times", size, taken)
		}
	}
}

// Whatever bytes come, they are decoded or refused.
func FuzzGuardedCodec(f *testing.F) {
	f.Add([]byte("\x12\x06\x1a\x04\x1a\x02\x0a\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range []proto.Message{
			new(quorlogv1.ProduceRequest), new(quorlogv1.ProduceStreamRequest), new(quorlogv1.ConsumeRequest), new(quorlogv1.CommitOffsetsRequest),
		} {
			if err := (guarded{}).Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, v); err == nil && len(b) < maxSmall && proto.Unmarshal(b, v) != nil {
				t.Error("damaged bytes are taken")
			}
		}
	})
}

// A message takes no more memory than its size until it is sent.
func TestMessagesHaveBuffersOfTheirSize(t *testing.T) {
	data, err := guarded{}.Marshal(&quorlogv1.ConsumeResponse{Records: []*quorlogv1.Record{{Value: make([]byte, 40<<10)}}})
	if err != nil || len(data) != 1 {
		t.Fatal(len(data), err)
	}
	if b := data[0].ReadOnlyData(); len(b) < 40<<10 || cap(b) > 2*len(b) {
		t.Errorf("%d bytes in a buffer of %d", len(b), cap(b))
	}
	data.Free()
}
