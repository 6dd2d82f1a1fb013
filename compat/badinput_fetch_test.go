package compat

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// fetchOf asks for partition 0 of a topic.
func fetchOf(version int16, topic string, offset int64, change func(*kmsg.FetchRequest, *kmsg.FetchRequestTopicPartition)) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MaxBytes, req.SessionEpoch, req.MaxWaitMillis = version, -1, 1<<20, -1, 0
	req.ReplicaState.ID = -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch, p.LastFetchedEpoch = offset, 1<<20, -1, -1
	if change != nil {
		change(req, &p)
	}
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = topic
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	return req
}

// storedRange makes a topic with records 0 to 9, of which 0 to 4 were deleted.
func (w *wire) storedRange(topic string) {
	w.t.Helper()
	const count, deleted = 10, 5
	w.createTopic(topic, 1)
	for i := range count {
		if got, err := w.produceTo(topic, 9, goodBatch().encode()); err != nil || got.ErrorCode != 0 {
			w.t.Fatalf("record %d: %+v, %v", i, got, err)
		}
	}
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 30_000
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = topic
	rt.Partitions = append(rt.Partitions, kmsg.DeleteRecordsRequestTopicPartition{Offset: deleted})
	req.Topics = append(req.Topics, rt)
	if got := w.ask(req).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0]; got.ErrorCode != 0 || got.LowWatermark != deleted {
		w.t.Fatalf("deleting records: %+v", got)
	}
}

// TestFetchOutOfRange: offsets on either side of what is stored, and epochs that never were.
func TestFetchOutOfRange(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	w := dialWire(t, node)
	w.storedRange("range")
	for _, version := range []int16{4, 7, 9, 11, 12} {
		for offset, want := range map[int64]int16{
			4: codeOffsetOutOfRange, 0: codeOffsetOutOfRange, 11: codeOffsetOutOfRange, math.MaxInt64: codeOffsetOutOfRange,
			-1: codeOffsetOutOfRange, math.MinInt64: codeOffsetOutOfRange,
			5: 0, 9: 0, 10: 0,
		} {
			got := w.ask(fetchOf(version, "range", offset, nil)).(*kmsg.FetchResponse)
			p := got.Topics[0].Partitions[0]
			if got.ErrorCode != 0 || p.ErrorCode != want {
				t.Errorf("v%d offset %d: error codes %d and %d, want %d", version, offset, got.ErrorCode, p.ErrorCode, want)
			}
			if has := len(p.RecordBatches) > 0; has != (want == 0 && offset < 10) {
				t.Errorf("v%d offset %d: %d bytes of records", version, offset, len(p.RecordBatches))
			}
		}
	}
	epochs := func(current, last int32) int16 {
		t.Helper()
		got := w.ask(fetchOf(12, "range", 7, func(_ *kmsg.FetchRequest, p *kmsg.FetchRequestTopicPartition) {
			p.CurrentLeaderEpoch, p.LastFetchedEpoch = current, last
		})).(*kmsg.FetchResponse)
		return got.Topics[0].Partitions[0].ErrorCode
	}
	if code := epochs(0, -1); code != codeFencedLeaderEpoch {
		t.Errorf("an old leader epoch: error code %d", code)
	}
	if code := epochs(math.MaxInt32, -1); code != codeUnknownLeaderEpoch {
		t.Errorf("a leader epoch of the future: error code %d", code)
	}
	for _, last := range []int32{math.MaxInt32, math.MinInt32, 0} {
		if code := epochs(-1, last); code != 0 && code != codeOffsetOutOfRange && code != codeUnknownLeaderEpoch {
			t.Errorf("last fetched epoch %d: error code %d", last, code)
		}
	}
	unharmed(t, node)
}

// TestFetchAsReplica: whoever says that it is a broker gets nothing: replicas get their records through Raft.
func TestFetchAsReplica(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	w := dialWire(t, node)
	w.storedRange("secret")
	for version := int16(4); version <= 12; version++ {
		for _, id := range []int32{0, 1, 2, math.MaxInt32} {
			got := w.ask(fetchOf(version, "secret", 5, func(r *kmsg.FetchRequest, _ *kmsg.FetchRequestTopicPartition) {
				r.ReplicaID = id
			})).(*kmsg.FetchResponse)
			if p := got.Topics[0].Partitions[0]; p.ErrorCode != codeTopicAuthorization || len(p.RecordBatches) > 0 {
				t.Errorf("v%d as replica %d: error code %d, %d bytes of records", version, id, p.ErrorCode, len(p.RecordBatches))
			}
		}
	}
	id := topicID(t, node, "secret")
	for version := int16(13); version <= 18; version++ {
		req := fetchOf(version, "", 5, func(r *kmsg.FetchRequest, _ *kmsg.FetchRequestTopicPartition) { r.ReplicaID, r.ReplicaState.ID = 1, 1 })
		req.Topics[0].TopicID = id
		got := w.ask(req).(*kmsg.FetchResponse)
		if p := got.Topics[0].Partitions[0]; p.ErrorCode != codeTopicAuthorization || len(p.RecordBatches) > 0 {
			t.Errorf("v%d as replica 1: error code %d, %d bytes of records", version, p.ErrorCode, len(p.RecordBatches))
		}
	}
	unharmed(t, node)
}

// TestFetchSessions: sessions that are not there, or that are somewhere else.
func TestFetchSessions(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	w := dialWire(t, node)
	w.storedRange("sessions")
	fetch := func(version int16, id, epoch int32, topics bool) *kmsg.FetchResponse {
		t.Helper()
		req := fetchOf(version, "sessions", 5, nil)
		req.SessionID, req.SessionEpoch = id, epoch
		if !topics {
			req.Topics = nil
		}
		return w.ask(req).(*kmsg.FetchResponse)
	}
	for _, id := range []int32{0, 1, -1, math.MaxInt32, math.MinInt32} {
		for _, epoch := range []int32{1, 2, math.MaxInt32, -2, math.MinInt32} {
			if got := fetch(7, id, epoch, true); got.ErrorCode != codeSessionNotFound || len(got.Topics) > 0 {
				t.Errorf("session %d, epoch %d: error code %d, %d topics", id, epoch, got.ErrorCode, len(got.Topics))
			}
		}
	}
	session := fetch(7, 0, 0, true).SessionID
	if session == 0 {
		t.Fatal("no session was made")
	}
	for _, epoch := range []int32{2, math.MaxInt32, -2} {
		if got := fetch(7, session, epoch, false); got.ErrorCode != codeSessionEpoch {
			t.Errorf("epoch %d of a session at 1: error code %d", epoch, got.ErrorCode)
		}
	}
	if got := fetch(13, session, 1, false); got.ErrorCode != codeSessionTopicID {
		t.Errorf("a session by names, continued by ids: error code %d", got.ErrorCode)
	}
	if got := fetch(7, session, 1, false); got.ErrorCode != 0 || got.SessionID != session {
		t.Errorf("the session is still at 1: %+v", got)
	}
	if got := fetch(7, session, -1, true); got.ErrorCode != 0 || got.SessionID != 0 || len(got.Topics) != 1 {
		t.Errorf("ending the session: %+v", got)
	}
	if got := fetch(7, session, 2, false); got.ErrorCode != codeSessionNotFound {
		t.Errorf("an ended session: error code %d", got.ErrorCode)
	}
	// Sessions by the thousand: the cache is bounded, and beyond it fetching works without.
	for range 3000 {
		if got := fetch(7, 0, 0, true); got.ErrorCode != 0 || len(got.Topics) != 1 {
			t.Fatalf("one session among many: %+v", got)
		}
	}
	unharmed(t, node)
}

// TestFetchSizes: sizes and waits that no client should ask for. What comes is whole batches, at least one where there is
// one, and no more than fetch.max.bytes allows, from the disk to the socket without a copy in memory.
func TestFetchSizes(t *testing.T) {
	const limit, batches, most = 4 << 20, 64, 32 << 10
	node := testcluster.Start(t, testcluster.Options{Args: []string{"--set", "fetch.max.bytes=4194304"}})
	w := dialWire(t, node)
	w.createTopic("sizes", 1)
	batch := batchOfSize(1 << 20)
	for range batches {
		if got, err := w.produceTo("sizes", 9, slices.Clone(batch)); err != nil || got.ErrorCode != 0 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	for _, max := range []int32{math.MaxInt32, limit, 1 << 20, 1, 0, -1, math.MinInt32} {
		for _, partitionMax := range []int32{math.MaxInt32, 1, 0, -1, math.MinInt32} {
			got := w.ask(fetchOf(11, "sizes", 0, func(r *kmsg.FetchRequest, p *kmsg.FetchRequestTopicPartition) {
				r.MaxBytes, p.PartitionMaxBytes, r.MinBytes = max, partitionMax, 1
			})).(*kmsg.FetchResponse)
			n := len(got.Topics[0].Partitions[0].RecordBatches)
			if n < len(batch) || n > limit || n%len(batch) != 0 {
				t.Errorf("max %d, of the partition %d: %d bytes", max, partitionMax, n)
			}
		}
	}
	// An absurd minimum must not wait for ever: for the wait that goes with it, at most.
	began := time.Now()
	w.ask(fetchOf(11, "sizes", 0, func(r *kmsg.FetchRequest, _ *kmsg.FetchRequestTopicPartition) {
		r.MinBytes, r.MaxBytes, r.MaxWaitMillis = math.MaxInt32, math.MaxInt32, 100
	}))
	w.ask(fetchOf(11, "sizes", batches, func(r *kmsg.FetchRequest, _ *kmsg.FetchRequestTopicPartition) {
		r.MinBytes, r.MaxWaitMillis = -1, -1
	}))
	t.Logf("a minimum of 2 GiB for at most 100 ms, and a wait of -1 ms: %v", time.Since(began))
	// Someone who would wait for 24 days, and hangs up: the connection ends at once.
	patient := dialWire(t, node)
	_, _ = patient.Write(requestFrame(fetchOf(11, "sizes", batches, func(r *kmsg.FetchRequest, _ *kmsg.FetchRequestTopicPartition) {
		r.MinBytes, r.MaxWaitMillis = 1, math.MaxInt32
	}), 1))
	patient.halfClose()
	if got := patient.rest(); len(got) > 0 {
		t.Errorf("a long poll whose client hung up was answered: %d bytes", len(got))
	}
	// The same partition 1,000 times in a request, on many connections that take nothing.
	grown := memoryPeak(t, node.Pid, func() {
		for range 50 {
			greedy := fetchOf(11, "sizes", 0, func(r *kmsg.FetchRequest, p *kmsg.FetchRequestTopicPartition) {
				r.MaxBytes, p.PartitionMaxBytes = math.MaxInt32, math.MaxInt32
			})
			for range 1000 {
				greedy.Topics[0].Partitions = append(greedy.Topics[0].Partitions, greedy.Topics[0].Partitions[0])
			}
			if _, err := dialWire(t, node).Write(requestFrame(greedy, 1)); err != nil {
				t.Fatal(err)
			}
		}
		unharmed(t, node)
	})
	t.Logf("50 connections that ask for 4 MiB and read nothing: %d KiB more at the peak", grown)
	if grown > most {
		t.Errorf("answers that are not taken cost %d KiB", grown)
	}
}

// TestListOffsetsBadTimestamps: special timestamps that do not exist, or not in that version, and times beyond all records.
func TestListOffsetsBadTimestamps(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	w := dialWire(t, node)
	w.storedRange("times")
	ask := func(version int16, timestamp int64, change func(*kmsg.ListOffsetsRequest)) kmsg.ListOffsetsResponseTopicPartition {
		t.Helper()
		req := kmsg.NewPtrListOffsetsRequest()
		req.Version, req.ReplicaID = version, -1
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = "times"
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Timestamp, rp.CurrentLeaderEpoch = timestamp, -1
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		if change != nil {
			change(req)
		}
		return w.ask(req).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	}
	// Which version knows which special value.
	since := map[int64]int16{-1: 1, -2: 1, -3: 7, -4: 8, -5: 9, -6: 11, -7: math.MaxInt16, -1000: math.MaxInt16, math.MinInt64: math.MaxInt16}
	for timestamp, from := range since {
		for version := int16(1); version <= 11; version++ {
			want := int16(0)
			if version < from {
				want = codeUnsupportedVersion
			}
			if got := ask(version, timestamp, nil); got.ErrorCode != want || want != 0 && got.Offset != -1 {
				t.Errorf("v%d timestamp %d: %+v, want error code %d", version, timestamp, got, want)
			}
		}
	}
	if got := ask(7, math.MaxInt64, nil); got.ErrorCode != 0 || got.Offset != -1 {
		t.Errorf("a time behind all records: %+v", got)
	}
	if got := ask(7, 0, nil); got.ErrorCode != 0 || got.Offset != 5 {
		t.Errorf("a time before all records: %+v", got)
	}
	twice := ask(7, -1, func(r *kmsg.ListOffsetsRequest) {
		r.Topics[0].Partitions = append(r.Topics[0].Partitions, r.Topics[0].Partitions[0])
	})
	if twice.ErrorCode != codeInvalidRequest {
		t.Errorf("a partition twice: %+v", twice)
	}
	for _, level := range []int8{2, -1, 127} {
		if got := ask(7, -1, func(r *kmsg.ListOffsetsRequest) { r.IsolationLevel = level }); got.ErrorCode != 0 && got.ErrorCode != codeInvalidRequest {
			t.Errorf("isolation level %d: %+v", level, got)
		}
	}
	unharmed(t, node)
}

// TestAdminBounds: administration that asks for more than a cluster has, or for nothing sensible.
func TestAdminBounds(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	s := newSample(t, node)
	w := dialWire(t, node)
	create := func(change func(*kmsg.CreateTopicsRequestTopic)) int16 {
		t.Helper()
		req := createRequest("bounds", 1)
		change(&req.Topics[0])
		return w.ask(req).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode
	}
	for name, tc := range map[string]struct {
		change func(*kmsg.CreateTopicsRequestTopic)
		want   []int16
	}{
		"2^31-1 partitions":   {func(r *kmsg.CreateTopicsRequestTopic) { r.NumPartitions = math.MaxInt32 }, []int16{codeInvalidPartitions}},
		"0 partitions":        {func(r *kmsg.CreateTopicsRequestTopic) { r.NumPartitions = 0 }, []int16{codeInvalidPartitions}},
		"-2 partitions":       {func(r *kmsg.CreateTopicsRequestTopic) { r.NumPartitions = -2 }, []int16{codeInvalidPartitions}},
		"3 replicas":          {func(r *kmsg.CreateTopicsRequestTopic) { r.ReplicationFactor = 3 }, []int16{codeInvalidReplicationFactor}},
		"32,767 replicas":     {func(r *kmsg.CreateTopicsRequestTopic) { r.ReplicationFactor = math.MaxInt16 }, []int16{codeInvalidReplicationFactor}},
		"0 replicas":          {func(r *kmsg.CreateTopicsRequestTopic) { r.ReplicationFactor = 0 }, []int16{codeInvalidReplicationFactor}},
		"no name":             {func(r *kmsg.CreateTopicsRequestTopic) { r.Topic = "" }, []int16{codeInvalidTopic}},
		"the name ..":         {func(r *kmsg.CreateTopicsRequestTopic) { r.Topic = ".." }, []int16{codeInvalidTopic}},
		"a path":              {func(r *kmsg.CreateTopicsRequestTopic) { r.Topic = "../../tmp/x" }, []int16{codeInvalidTopic}},
		"a name with a zero":  {func(r *kmsg.CreateTopicsRequestTopic) { r.Topic = "a\x00b" }, []int16{codeInvalidTopic}},
		"a name of 250 bytes": {func(r *kmsg.CreateTopicsRequestTopic) { r.Topic = string(make([]byte, 250)) }, []int16{codeInvalidTopic}},
		"a name that exists":  {func(r *kmsg.CreateTopicsRequestTopic) { r.Topic = s.topic }, []int16{codeTopicExists}},
		"an unknown setting":  {setting("no.such.setting", "1"), []int16{codeInvalidConfig}},
		"a negative size":     {setting("segment.bytes", "-5"), []int16{codeInvalidConfig}},
		"a size that wraps":   {setting("max.message.bytes", "99999999999999999999"), []int16{codeInvalidConfig}},
		"no number":           {setting("retention.ms", "soon"), []int16{codeInvalidConfig}},
		"a policy of nothing": {setting("cleanup.policy", ""), []int16{codeInvalidConfig}},
		"an unknown codec":    {setting("compression.type", "rar"), []int16{codeInvalidConfig}},
		"replicas on node 9":  {assignment(0, 9), []int16{codeInvalidReplicaAssignment}},
		"replicas twice on 1": {assignment(0, 1, 1), []int16{codeInvalidReplicaAssignment}},
		"partition 5 alone":   {assignment(5, 1), []int16{codeInvalidReplicaAssignment}},
		"no replicas":         {assignment(0), []int16{codeInvalidReplicaAssignment}},
	} {
		if got := create(tc.change); !slices.Contains(tc.want, got) {
			t.Errorf("%s: error code %d, want %v", name, got, tc.want)
		}
	}
	// Every compression.type is a legal one: the sample of settings that once was not.
	for _, codec := range []string{"uncompressed", "producer", "gzip", "snappy", "lz4", "zstd"} {
		w.createTopic("codec-"+codec, 1, "compression.type", codec)
	}
	req := kmsg.NewPtrDeleteRecordsRequest()
	for offset, want := range map[int64]int16{1: codeOffsetOutOfRange, math.MaxInt64: codeOffsetOutOfRange, -2: codeOffsetOutOfRange, math.MinInt64: codeOffsetOutOfRange, -1: 0} {
		req.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: s.topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: offset}}}}
		if got := w.ask(req).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode; got != want {
			t.Errorf("deleting records below %d of an empty partition: error code %d, want %d", offset, got, want)
		}
	}
	unharmed(t, node)
}

func setting(name, value string) func(*kmsg.CreateTopicsRequestTopic) {
	return func(r *kmsg.CreateTopicsRequestTopic) {
		r.Configs = append(r.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: name, Value: &value})
	}
}

func assignment(partition int32, replicas ...int32) func(*kmsg.CreateTopicsRequestTopic) {
	return func(r *kmsg.CreateTopicsRequestTopic) {
		r.NumPartitions, r.ReplicationFactor = -1, -1
		r.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Partition: partition, Replicas: replicas}}
	}
}
