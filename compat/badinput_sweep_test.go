package compat

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// served are the versions of a key that get answers. Produce is offered from 0 for the sake of old librdkafka (KAFKA-18659).
func served(k kmsg.ApiVersionsResponseApiKey) (from, to int16) {
	switch kmsg.Key(k.ApiKey) {
	case kmsg.Produce:
		return 3, k.MaxVersion
	case kmsg.SASLHandshake:
		return 1, k.MaxVersion
	}
	return k.MinVersion, k.MaxVersion
}

// offered is a valid request of a key and version that the broker offers.
type offered struct {
	kmsg.Request
	variant variant
}

// String names the request in failures.
func (o offered) String() string {
	return fmt.Sprintf("%s v%d %s", kmsg.NameForKey(o.Key()), o.GetVersion(), o.variant)
}

// allRequests are requests of every key, version and variant.
func allRequests(t *testing.T, node *testcluster.Node) (all []offered) {
	t.Helper()
	s := newSample(t, node)
	for _, k := range advertised(t, node) {
		from, to := served(k)
		for version := from; version <= to; version++ {
			for _, v := range []variant{bare, filled} {
				all = append(all, offered{s.request(k.ApiKey, version, v), v})
			}
		}
	}
	return all
}

// acceptable are the error codes of good requests that the sample can't make succeed: it names no real member, and each
// group is its own.
var acceptable = map[kmsg.Key][]int16{
	kmsg.OffsetCommit:     {codeInvalidGroup},
	kmsg.OffsetFetch:      {codeInvalidGroup},
	kmsg.FindCoordinator:  {codeInvalidGroup},
	kmsg.JoinGroup:        {codeInvalidGroup, codeMemberIDRequired},
	kmsg.Heartbeat:        {codeInvalidGroup, codeUnknownMember},
	kmsg.LeaveGroup:       {codeInvalidGroup, codeUnknownMember},
	kmsg.SyncGroup:        {codeInvalidGroup, codeUnknownMember},
	kmsg.DescribeGroups:   {codeGroupNotFound},
	kmsg.DeleteGroups:     {codeGroupNotFound},
	kmsg.OffsetDelete:     {codeInvalidGroup, codeGroupNotFound},
	kmsg.DeleteTopics:     {codeUnknownPartition}, // the sample's own topic stays
	kmsg.CreatePartitions: {codeInvalidPartitions},
	// The preferred replica leads already, there is one node to move to, and nobody is to be forgotten.
	kmsg.ElectLeaders:              {codeElectionNotNeeded},
	kmsg.AlterPartitionAssignments: {codeInvalidReplicas},
	kmsg.UnregisterBroker:          {codeNotRegistered},
	// Nobody has begun a transaction, so the topic of the coordinators is not there yet, and one without an id is none.
	kmsg.AddPartitionsToTxn:   {codeNotCoordinator},
	kmsg.AddOffsetsToTxn:      {codeNotCoordinator, codeInvalidGroup},
	kmsg.EndTxn:               {codeNotCoordinator, codeInvalidRequest},
	kmsg.TxnOffsetCommit:      {codeNotCoordinator, codeLoading},
	kmsg.DescribeTransactions: {codeNotCoordinator},
	kmsg.UpdateFeatures:       {codeInvalidUpdateVersion},
	// The members and groups are not there, or have no name.
	kmsg.ConsumerGroupHeartbeat:  {codeInvalidRequest},
	kmsg.ConsumerGroupDescribe:   {codeGroupNotFound},
	kmsg.ShareGroupHeartbeat:     {codeInvalidRequest},
	kmsg.ShareGroupDescribe:      {codeGroupNotFound},
	kmsg.ShareFetch:              {codeInvalidRequest},
	kmsg.ShareAcknowledge:        {codeShareSessionEpoch},
	kmsg.AlterShareGroupOffsets:  {codeInvalidGroup},
	kmsg.DeleteShareGroupOffsets: {codeInvalidGroup, codeGroupNotFound},
	kmsg.ListConfigResources:     {codeUnsupportedVersion}, // of a type that is not known
	// Nobody logs in on this listener, nothing is forbidden, and the users and mechanisms are not there.
	kmsg.SASLHandshake:                {codeIllegalSASLState},
	kmsg.SASLAuthenticate:             {codeIllegalSASLState},
	kmsg.DescribeACLs:                 {codeSecurityDisabled},
	kmsg.CreateACLs:                   {codeSecurityDisabled},
	kmsg.DeleteACLs:                   {codeSecurityDisabled},
	kmsg.DescribeUserSCRAMCredentials: {codeResourceNotFound},
	kmsg.AlterUserSCRAMCredentials:    {codeUnsupportedSASLMechanism},
}

// TestEveryVersionAnswers: a valid request of every key and version that is offered gets an answer that decodes, byte for
// byte, and that holds no error but those a stranger must expect; never UNKNOWN_SERVER_ERROR.
func TestEveryVersionAnswers(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	all := allRequests(t, node)
	w := dialWire(t, node)
	for _, req := range all {
		resp := w.ask(req)
		for _, code := range errorCodes(resp) {
			if code != 0 && !slices.Contains(acceptable[kmsg.Key(req.Key())], code) {
				t.Errorf("%s: error code %d in %+v", req, code, resp)
			}
		}
	}
	t.Logf("%d requests answered", len(all))
	unharmed(t, node)
}

// cuts are the places at which a request of n bytes is cut off: some or all, but always within each header field, right
// behind the header, and before the last byte.
func cuts(n int) []int {
	points := []int{}
	step := max(1, n/scaled(12, n))
	for i := 0; i < n; i++ {
		if i < 12 && i%3 == 1 || i%step == 0 || i >= n-2 {
			points = append(points, i)
		}
	}
	return points
}

// TestTruncatedAndTrailing: every request, cut off anywhere or with bytes behind its end, ends its connection without an
// answer. The frame's length fits what is sent: it is the request in it that is wrong.
func TestTruncatedAndTrailing(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{Args: fastAccept})
	truncated, trailing := 0, 0
	for _, req := range allRequests(t, node) {
		whole := requestFrame(req, 7)[4:]
		check := func(what string, body []byte) {
			t.Helper()
			w := dialWire(t, node)
			_, _ = w.Write(frame(body))
			if got := w.rest(); len(got) > 0 {
				t.Errorf("%s of %d bytes %s: answered %x", req, len(whole), what, got)
			}
		}
		for _, at := range cuts(len(whole)) {
			if at > 0 { // an empty frame is another test's
				check(fmt.Sprintf("cut at %d", at), whole[:at])
				truncated++
			}
		}
		for _, extra := range [][]byte{{0}, {0xff}, make([]byte, 64), whole} {
			check(fmt.Sprintf("with %d bytes behind it", len(extra)), slices.Concat(whole, extra))
			trailing++
		}
	}
	t.Logf("%d truncated requests and %d with trailing bytes refused", truncated, trailing)
	if lines := strings.Count(node.Log(), "connection closed"); lines > 1000 {
		t.Errorf("%d bad connections wrote %d lines", truncated+trailing, lines)
	}
	unharmed(t, node)
}

// TestCutConnections: a client that vanishes in the middle of a request costs nobody anything, and its connection is
// closed on this side too.
func TestCutConnections(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{Args: fastAccept})
	for _, req := range allRequests(t, node) {
		whole := requestFrame(req, 7)
		w := dialWire(t, node)
		if _, err := w.Write(whole[:len(whole)-1]); err != nil {
			t.Fatal(err)
		}
		w.halfClose()
		if got := w.rest(); len(got) > 0 {
			t.Errorf("%s: half a request was answered: %x", req, got)
		}
	}
	unharmed(t, node)
}

// TestAbsurdNumbers: every place of every request takes on, in turn, the values with which counts and lengths overflow,
// wrap, or ask for memory. The connection ends or there is an answer that decodes; the broker's memory stays bounded.
func TestAbsurdNumbers(t *testing.T) {
	const most = 128 << 10
	node := testcluster.Start(t, testcluster.Options{Args: fuzzArgs})
	absurd := [][]byte{
		{0x7f, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0xfe}, {0x80, 0, 0, 0}, {0x00, 0x0f, 0xff, 0xff},
		{0x7f, 0xff}, {0xff, 0xfe}, {0xff, 0xff, 0xff, 0xff, 0x0f}, {0xff, 0xff, 0xff, 0xff, 0xff, 0x0f}, {0x80},
	}
	sent := 0
	grown := memoryPeak(t, node.Pid, func() {
		f := newFuzzer(t, node, 1)
		for _, req := range allRequests(t, node) {
			whole := requestFrame(req, 0)[4:]
			step := max(1, (len(whole)-fixedHeader)/scaled(10, len(whole)))
			for at := fixedHeader; at < len(whole); at += step {
				value := absurd[sent%len(absurd)]
				body := slices.Clone(whole[:at])
				body = append(body, value...)
				body = append(body, whole[min(len(whole), at+len(value)):]...)
				f.send(t, body)
				sent++
			}
		}
		f.close()
	})
	t.Logf("%d requests with absurd numbers: %d KiB more at the peak", sent, grown)
	if grown > most {
		t.Errorf("absurd numbers cost %d KiB", grown)
	}
	unharmed(t, node)
}
