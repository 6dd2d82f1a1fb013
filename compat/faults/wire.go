package faults

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// wire is one plain connection to one node: a request goes to this node and to no other, is sent once, and its error is
// seen as it is.
type wire struct {
	conn        net.Conn
	format      *kmsg.RequestFormatter
	correlation int32
}

// maxAnswer bounds an answer; a fetch asks for less.
const maxAnswer = 64 << 20

func dialWire(ctx context.Context, addr string) (*wire, error) {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &wire{conn: conn, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID("faults"))}, nil
}

func (w *wire) close() { _ = w.conn.Close() }

// do sends a request at its set version and reads the answer within limit. After an error the connection is of no use.
func (w *wire) do(req kmsg.Request, limit time.Duration) (kmsg.Response, error) {
	if err := w.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	w.correlation++
	if _, err := w.conn.Write(w.format.AppendRequest(nil, req, w.correlation)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(w.conn, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n < 4 || n > maxAnswer {
		return nil, fmt.Errorf("an answer of %d bytes", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(w.conn, body); err != nil {
		return nil, err
	}
	if got := int32(binary.BigEndian.Uint32(body)); got != w.correlation {
		return nil, fmt.Errorf("the answer to request %d came for %d", w.correlation, got)
	}
	body = body[4:]
	if req.IsFlexible() {
		if len(body) == 0 || body[0] != 0 {
			return nil, errors.New("a tag in a response header")
		}
		body = body[1:]
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	return resp, resp.ReadFrom(body)
}

// leaderView is what one node says about a partition.
type leaderView struct {
	leader int
	epoch  int32
	isr    []int32
}

// clusterView is what one node says about a topic and the nodes.
type clusterView struct {
	addrs   map[int]string
	parts   map[int32]leaderView
	replica map[int32][]int32
}

// look asks a node for its metadata of a topic.
func (w *wire) look(topic string) (clusterView, error) { return w.lookFor(topic, 2*time.Second) }

func (w *wire) lookFor(topic string, limit time.Duration) (clusterView, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.SetVersion(12)
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = &topic
	req.Topics = []kmsg.MetadataRequestTopic{rt}
	answer, err := w.do(req, limit)
	if err != nil {
		return clusterView{}, err
	}
	resp := answer.(*kmsg.MetadataResponse)
	view := clusterView{addrs: map[int]string{}, parts: map[int32]leaderView{}, replica: map[int32][]int32{}}
	for _, b := range resp.Brokers {
		view.addrs[int(b.NodeID)] = net.JoinHostPort(b.Host, fmt.Sprint(b.Port))
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			view.parts[p.Partition] = leaderView{int(p.Leader), p.LeaderEpoch, p.ISR}
			view.replica[p.Partition] = p.Replicas
		}
	}
	return view, nil
}
