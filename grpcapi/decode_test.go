package grpcapi

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/log/batch"
)

// Names of headers are bytes to Kafka and text to protobuf. One that is no text is no reason not to get what stands beside it.
func TestHeadersThatAreNoText(t *testing.T) {
	headers := []batch.RecordHeader{{Key: "\xff", Value: []byte("\xfe")}, {Key: "a\xff\xfeb\x80"}, {Key: "gr\u00fcn"}}
	raw, err := batch.Build(batch.BuildOptions{}, batch.Record{Value: []byte("a")}, batch.Record{Headers: headers}, batch.Record{Value: []byte("b")})
	if err != nil {
		t.Fatal(err)
	}
	batch.Stamp(raw, 0, 0)
	var got *quorlogv1.ConsumeResponse
	d := decoder{limit: defaultAnswer, send: func(out *quorlogv1.ConsumeResponse) error {
		got = out
		return errEnough
	}}
	d.begin()
	if err := d.decode(raw); !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	wire, err := proto.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	read := new(quorlogv1.ConsumeResponse)
	if err := proto.Unmarshal(wire, read); err != nil || len(read.GetRecords()) != 3 || read.GetNextOffset() != 3 {
		t.Fatalf("%v, %v", read, err)
	}
	for i, want := range []string{"\ufffd", "a\ufffdb\ufffd", "gr\u00fcn"} {
		if h := read.GetRecords()[1].GetHeaders()[i]; h.GetKey() != want || string(h.GetValue()) != string(headers[i].Value) {
			t.Errorf("%q became %q", headers[i].Key, h)
		}
	}
}
