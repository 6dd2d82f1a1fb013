package share

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

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

// plainKey is a Key as JSON has it by itself.
type plainKey Key

// travellingKey is how a Key goes from node to node. JSON would make another group of one whose id is not UTF-8, which clients may use.
type travellingKey struct {
	plainKey
	Bytes []byte `json:",omitempty"` // of such an id
}

// MarshalJSON keeps every byte of the group's id.
func (k Key) MarshalJSON() ([]byte, error) {
	out := travellingKey{plainKey: plainKey(k)}
	if !utf8.ValidString(k.Group) {
		out.Bytes = []byte(k.Group)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON has written, and what nodes of before write.
func (k *Key) UnmarshalJSON(b []byte) error {
	var in travellingKey
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	if len(in.Bytes) > 0 {
		in.Group = string(in.Bytes)
	}
	*k = Key(in.plainKey)
	return nil
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
