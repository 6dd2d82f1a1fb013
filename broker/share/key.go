package share

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"github.com/quorlog/quorlog/replication"
)

// Key names a share-partition: a group's progress in one partition of a topic.
type Key struct {
	Group     string
	Topic     replication.TopicID
	Partition int32
}

// String is the key's form in Kafka, by which its state hashes to a partition of __share_group_state.
func (k Key) String() string {
	return k.Group + ":" + k.Topic.String() + ":" + strconv.Itoa(int(k.Partition))
}

var errBadKey = errors.New("no key of a share-partition")

// ParseKey reads what String has written. A group's id may contain any character.
func ParseKey(s string) (Key, error) {
	rest, partition, ok := cutLast(s)
	if !ok {
		return Key{}, errBadKey
	}
	group, topic, ok := cutLast(rest)
	if !ok {
		return Key{}, errBadKey
	}
	n, err := strconv.ParseInt(partition, 10, 32)
	if err != nil || n < 0 {
		return Key{}, errBadKey
	}
	k := Key{Group: group, Partition: int32(n)}
	id, err := base64.RawURLEncoding.DecodeString(topic)
	if err != nil || len(id) != len(k.Topic) {
		return Key{}, errBadKey
	}
	copy(k.Topic[:], id)
	return k, nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}
