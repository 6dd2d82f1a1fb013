package group

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/replication"
)

// offsetTable is the committed offsets of a group.
type offsetTable struct {
	topics map[string]map[int32]Committed
	n      int
}

func (t *offsetTable) len() int { return t.n }

func (t *offsetTable) get(k OffsetKey) (Committed, bool) {
	c, ok := t.topics[k.Topic][k.Partition]
	return c, ok
}

func (t *offsetTable) put(k OffsetKey, c Committed) {
	parts := t.topics[k.Topic]
	if parts == nil {
		if t.topics == nil {
			t.topics = map[string]map[int32]Committed{}
		}
		parts = map[int32]Committed{}
		t.topics[k.Topic] = parts
	}
	if _, ok := parts[k.Partition]; !ok {
		t.n++
	}
	parts[k.Partition] = c
}

func (t *offsetTable) drop(k OffsetKey) {
	parts := t.topics[k.Topic]
	if _, ok := parts[k.Partition]; !ok {
		return
	}
	delete(parts, k.Partition)
	t.n--
	if len(parts) == 0 {
		delete(t.topics, k.Topic)
	}
}

// each calls fn with the offsets of a topic, in no particular order.
func (t *offsetTable) each(topic string, fn func(OffsetKey, *Committed)) {
	for p, c := range t.topics[topic] {
		fn(OffsetKey{Topic: topic, Partition: p}, &c)
	}
}

// keys returns the keys of a topic, or of all if topic is empty, sorted.
func (t *offsetTable) keys(topic string) []OffsetKey {
	var out []OffsetKey
	add := func(name string) {
		for p := range t.topics[name] {
			out = append(out, OffsetKey{Topic: name, Partition: p})
		}
	}
	if topic != "" {
		add(topic)
	} else {
		for name := range t.topics {
			add(name)
		}
	}
	sortKeys(out)
	return out
}

func sortKeys(keys []OffsetKey) {
	slices.SortFunc(keys, func(a, b OffsetKey) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}

// commit stores offsets. They are visible once they are committed to the log.
func (m *Machine) commit(now time.Time, e Commit) {
	if err := m.checkCommit(now, &e); err != nil {
		m.reply(e.Call, err)
		return
	}
	if len(e.Offsets) == 0 {
		m.reply(e.Call, nil)
		return
	}
	records := make([]Record, len(e.Offsets))
	for i := range e.Offsets {
		records[i] = Record{Group: m.id, Key: &e.Offsets[i].Key, Offset: &e.Offsets[i].Value}
	}
	m.writeFor(e.Producer, e.Verified, records, func(_ time.Time, err error) {
		if err == nil {
			m.keep(e)
		}
		m.reply(e.Call, err)
	})
}

// keep takes over offsets that are committed to the log.
func (m *Machine) keep(e Commit) {
	for i := range e.Offsets {
		m.place++
		o := &e.Offsets[i]
		o.Value.place = m.place
		if e.Producer != nil {
			m.txns.put(*e.Producer, o.Key, o.Value)
		} else {
			m.offsets.put(o.Key, o.Value)
		}
	}
}

func (m *Machine) checkCommit(now time.Time, e *Commit) error {
	switch {
	case m.state == Dead:
		return broker.ErrCoordinatorNotAvailable
	case m.offsets.len()+m.txns.len()+len(e.Offsets) > m.limits.MaxOffsetsPerGroup:
		return broker.ErrGroupMaxSizeReached
	case m.modern != nil:
		return m.modern.checkCommit(e)
	case e.Generation < 0 && m.state == Empty:
		return nil // a client that shares out the work itself and only keeps its offsets here
	case e.Generation < 0 && e.Member == "" && e.Instance == "" && e.Producer != nil:
		return nil // a producer that does not say for whom it commits: before KIP-447 none could
	case e.Generation < 0 && e.Member == "" && e.Instance == "":
		return broker.ErrUnknownMember // such a client beside a group that has members
	case m.Blank():
		return broker.ErrIllegalGeneration // a member of a group of which nothing is known
	}
	s, err := m.check(e.Member, e.Instance)
	if err != nil {
		return err
	}
	if e.Generation != m.generation {
		return broker.ErrIllegalGeneration
	}
	m.alive(now, s)
	if m.state == CompletingRebalance && e.Producer == nil {
		// Its share may be another's by now. (While PreparingRebalance it still owns what it owned.)
		return broker.ErrRebalanceInProgress
	}
	return nil
}

// drop writes tombstones, and removes the offsets once those are committed.
func (m *Machine) drop(keys []OffsetKey, then func(err error)) {
	records := make([]Record, len(keys))
	for i := range keys {
		records[i] = Record{Group: m.id, Key: &keys[i]}
	}
	m.write(records, func(_ time.Time, err error) {
		if err == nil {
			for _, k := range keys {
				m.offsets.drop(k)
				m.txns.drop(k)
			}
		}
		then(err)
	})
}

func (m *Machine) deleteOffsets(e DeleteOffsets) {
	switch {
	case m.state == Dead || m.Blank():
		m.reply(e.Call, broker.ErrGroupNotFound)
		return
	case m.state != Empty && m.protocolType != ConsumerProtocol:
		m.reply(e.Call, broker.ErrNonEmptyGroup) // nobody knows what its members read
		return
	}
	each := make([]error, len(e.Topics))
	waiting := m.waiting()
	var keys []OffsetKey
	for i, t := range e.Topics {
		if m.isSubscribed(t.Name) {
			each[i] = broker.ErrGroupSubscribedToTopic
			continue
		}
		for _, p := range t.Partitions {
			k := OffsetKey{Topic: t.Name, Partition: p}
			_, here := m.offsets.get(k)
			if _, soon := waiting[k]; here || soon || m.txns.has(k) {
				keys = append(keys, k)
			}
		}
	}
	if len(keys) == 0 {
		m.replyEach(e.Call, each)
		return
	}
	m.drop(keys, func(err error) {
		if err != nil {
			m.reply(e.Call, err)
			return
		}
		m.replyEach(e.Call, each)
	})
}

// topicDeleted forgets the offsets of a topic: one that is made again under the name starts at offset 0. Of a partition for which there
// is an offset of another topic, too, nothing is: a tombstone comes behind all that is written, and the old offset is shown to nobody.
func (m *Machine) topicDeleted(e TopicDeleted) {
	if m.state == Dead {
		return
	}
	spared := ofAnother(m, e)
	keys := slices.DeleteFunc(m.allKeys(e.Topic), func(k OffsetKey) bool {
		_, ok := spared[k]
		return ok
	})
	if len(keys) > 0 {
		m.drop(keys, func(error) {})
	}
}

// ofAnother are the partitions of which the log holds an offset, or will, that is of another topic of the name.
func ofAnother(m *Machine, e TopicDeleted) map[OffsetKey]struct{} {
	keys := map[OffsetKey]struct{}{}
	see := func(k OffsetKey, c *Committed) {
		unsaid := c.TopicID == (replication.TopicID{})
		if k.Topic == e.Topic && c.TopicID != e.ID && !(unsaid && e.Just) {
			keys[k] = struct{}{}
		}
	}
	m.eachWaiting(see)
	m.offsets.each(e.Topic, see)
	for _, open := range m.txns {
		open.offsets.each(e.Topic, see)
	}
	return keys
}

// delete removes the whole group. It is Dead while the tombstones are written.
func (m *Machine) delete(e Delete) {
	switch {
	case m.state == Dead || m.Blank():
		m.reply(e.Call, broker.ErrGroupNotFound)
		return
	case !m.isIdle():
		m.reply(e.Call, broker.ErrNonEmptyGroup)
		return
	}
	m.bury(m.allKeys(""), func(err error) { m.reply(e.Call, err) })
}

// allKeys are the partitions of a topic, or of all if topic is empty, of which the log holds an offset or will.
func (m *Machine) allKeys(topic string) []OffsetKey {
	keys := m.waiting()
	maps.DeleteFunc(keys, func(k OffsetKey, _ struct{}) bool { return topic != "" && k.Topic != topic })
	for _, k := range append(m.offsets.keys(topic), m.txns.keys(topic)...) {
		keys[k] = struct{}{}
	}
	sorted := slices.Collect(maps.Keys(keys))
	sortKeys(sorted)
	return sorted
}

// bury writes the tombstones of the offsets and of the group itself.
func (m *Machine) bury(keys []OffsetKey, then func(err error)) {
	records := make([]Record, 0, len(keys)+1)
	for i := range keys {
		records = append(records, Record{Group: m.id, Key: &keys[i]})
	}
	if m.modern != nil {
		records = append(records, m.modern.tombstones(m.id)...)
	} else {
		records = append(records, Record{Group: m.id})
	}
	m.state = Dead
	m.write(records, func(_ time.Time, err error) {
		then(err)
		if err != nil {
			m.state = Empty
			return
		}
		m.offsets, m.txns, m.modern = offsetTable{}, transactions{}, nil
		m.out = append(m.out, Forget{})
	})
}

// sweep expires offsets. It waits while anything is being written: a sweep comes round again.
func (m *Machine) sweep(now time.Time) {
	if len(m.writes) > 0 || m.state == Dead {
		return
	}
	// As in Kafka a share group ends only when it is deleted: what it has read is not in its offsets, and would be left behind.
	if m.modern != nil && m.modern.share {
		return
	}
	var expired []OffsetKey
	for _, k := range m.offsets.keys("") {
		if c, _ := m.offsets.get(k); m.isExpired(now, k, &c) && !m.txns.has(k) {
			expired = append(expired, k)
		}
	}
	switch {
	case len(expired) == m.offsets.len() && m.isIdle() && len(m.pending) == 0 && len(m.txns) == 0:
		m.bury(expired, func(error) {})
	case len(expired) > 0:
		m.drop(expired, func(error) {})
	}
}

// isExpired applies KIP-211: the retention counts from when the group became empty, or, for offsets without a group or of
// topics that a stable consumer group reads no more, from their commit.
func (m *Machine) isExpired(now time.Time, k OffsetKey, c *Committed) bool {
	since := c.At
	switch {
	case m.modern != nil:
		if m.isSubscribed(k.Topic) {
			return false
		}
	case m.state == Empty && m.protocolType == "":
	case m.state == Empty:
		if m.stateSince.After(since) {
			since = m.stateSince
		}
	case m.state == Stable && m.protocolType == ConsumerProtocol && m.subscribed.known:
		if m.subscribed.has(k.Topic) {
			return false
		}
	default:
		return false
	}
	if !c.Expires.IsZero() {
		return !now.Before(c.Expires)
	}
	return now.Sub(since) >= m.limits.OffsetsRetention
}
