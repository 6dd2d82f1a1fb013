package transport

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/quorlog/quorlog/internal/scripts"
)

// goldenWire is what other releases must understand, a line for each: name, and bytes in hexadecimal.
const goldenWire = "testdata/wire.txt"

func compareGolden(t *testing.T, got map[string][]byte) {
	t.Helper()
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(got)) {
		fmt.Fprintf(&text, "%s %x\n", name, got[name])
	}
	scripts.Golden(t, goldenWire, text.String(), "nodes of other releases would not understand this; if they must not, raise protocolVersion")
}

// recorder is a connection of the side that dialled, and what went through it.
type recorder struct {
	net.Conn
	mu       sync.Mutex
	out, got []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	r.out = append(r.out, b...) // before: the answer may be there before Write returns
	r.mu.Unlock()
	return r.Conn.Write(b)
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, b[:n]...)
	return n, err
}

func (r *recorder) lane(t *testing.T) lane {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	h, _, err := readHello(bytes.NewReader(r.out))
	if err != nil {
		t.Fatal(err)
	}
	return h.lane
}

// messages are those that went each way, behind the handshake.
func (r *recorder) messages(t *testing.T) (all [][]byte) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, b := range [][]byte{r.out, r.got} {
		_, hello, err := readHello(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		for b = b[len(hello)+i+macLength:]; len(b) >= frameHead; {
			n := frameHead + int(binary.BigEndian.Uint32(b))
			all, b = append(all, b[:n]), b[n:]
		}
	}
	return all
}

var kindNames = map[byte]string{
	kindOpen: "open", kindAppend: "append", kindBeats: "beats", kindVote: "vote", kindPreVote: "pre-vote", kindSnapshot: "snapshot", kindCampaign: "campaign",
	kindCall: "call", kindCancel: "cancel", kindPing: "ping", kindAnswer: "answer", kindFailure: "failure", kindBeatsSeen: "beats-seen",
	kindCallAnswer: "call-answer", kindCallError: "call-error", kindPong: "pong",
}

// TestWireFormat holds a conversation and looks at the first message of each kind, byte for byte.
func TestWireFormat(t *testing.T) {
	c := newCluster(t)
	var mu sync.Mutex
	var conns []*recorder
	n1 := c.add(1, func(o *PeersOptions) {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			mu.Lock()
			defer mu.Unlock()
			conns = append(conns, &recorder{Conn: nc})
			return conns[len(conns)-1], nil
		}
	})
	n2 := c.add(2, nil)
	b := &safeEcho{}
	end := attach(t, n1, "group", "1.7", &safeEcho{})
	attach(t, n2, "group", "2.8", b)
	holdConversation(t, n1, end, func(b []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.ContainsFunc(conns, func(r *recorder) bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return bytes.Contains(r.out, b)
		})
	})

	got := map[string][]byte{"ping": simple(kindPing).head, "pong": simple(kindPong).head}
	mu.Lock()
	defer mu.Unlock()
	// A node dials another one for each lane, at the same time.
	slices.SortFunc(conns, func(a, b *recorder) int { return cmp.Compare(a.lane(t), b.lane(t)) })
	for _, r := range conns {
		for _, m := range r.messages(t) {
			if name := kindNames[m[frameHead]]; got[name] == nil {
				got[name] = m
			}
		}
	}
	for kind, name := range kindNames {
		if got[name] == nil {
			t.Errorf("no message of kind %d, %s", kind, name)
		}
	}
	dialled := hello{lane: laneCall, wanted: 2, nonce: [nonceLength]byte{1, 2, 3}, info: PeerInfo{Node: 1, Directory: [16]byte{4, 5}, Cluster: "cluster", Version: "1.2"}}
	got["hello"] = dialled.encode()
	got["proof-dialled"] = prove(deriveKey(testKey), "dialled", []byte("a"), []byte("b"))
	got["proof-accepted"] = prove(deriveKey(testKey), "accepted", []byte("a"), []byte("b"))
	var refusal bytes.Buffer
	if err := refuse(&refusal, errKey); err != nil {
		t.Fatal(err)
	}
	got["refusal"] = refusal.Bytes()
	if back, _, err := readHello(bytes.NewReader(got["hello"])); err != nil || back != dialled {
		t.Errorf("%+v, %v", back, err)
	}
	compareGolden(t, got)
}

// holdConversation has node 1 say one of everything to node 2.
func holdConversation(t *testing.T, n1 *node, end Endpoint, sent func([]byte) bool) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	req := request()
	req.LeaderCommitIndex = 2
	must(end.AppendEntries("2.8", "2.8", req, &raft.AppendEntriesResponse{}))
	must(end.InstallSnapshot("2.8", "2.8", &raft.InstallSnapshotRequest{
		Term: 6, SnapshotVersion: 1, LastLogIndex: 7, LastLogTerm: 5, Configuration: []byte("conf"), ConfigurationIndex: 3, Size: 5,
	}, &raft.InstallSnapshotResponse{}, []byte("state")))
	must(end.RequestVote("2.8", "2.8", &raft.RequestVoteRequest{Term: 4, LastLogIndex: 500, LastLogTerm: 6, LeadershipTransfer: true}, &raft.RequestVoteResponse{}))
	must(end.RequestPreVote("2.8", "2.8", &raft.RequestPreVoteRequest{Term: 5, LastLogIndex: 600, LastLogTerm: 7}, &raft.RequestPreVoteResponse{}))
	must(end.TimeoutNow("2.8", "2.8", &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{}))
	must(end.AppendEntries("2.8", "2.8", &raft.AppendEntriesRequest{Term: 9}, &raft.AppendEntriesResponse{}))
	if err := end.RequestVote("2.9", "2.9", &raft.RequestVoteRequest{Term: 4}, &raft.RequestVoteResponse{}); !errors.Is(err, ErrAbsent) {
		t.Fatal(err)
	}
	_, err := n1.Call(t.Context(), 2, "echo", []byte("hi"))
	must(err)
	if _, err := n1.Call(t.Context(), 2, "refuse", nil); err == nil {
		t.Fatal("not refused")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := n1.Call(ctx, 2, "hang", nil)
		ended <- err
	}()
	wait(t, "the call to be sent", func() bool { return sent([]byte("hang")) })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	_, err = n1.Call(t.Context(), 2, "echo", []byte("after the cancel"))
	must(err)
}
