package group

import "encoding/binary"

// subscription is what the members of a consumer group read, as far as their metadata tells. Not known: everything.
type subscription struct {
	known  bool
	topics map[string]struct{}
}

func (s *subscription) has(topic string) bool {
	if !s.known {
		return true
	}
	_, ok := s.topics[topic]
	return ok
}

// add reads the head of a ConsumerProtocolSubscription: int16 version, then an array of topic names; what follows differs
// between versions and does not matter here. It reports whether the bytes are of that form: what clients send each other
// is theirs to choose.
func (s *subscription) add(b []byte) bool {
	if len(b) < 6 || int16(binary.BigEndian.Uint16(b)) < 0 {
		return false
	}
	n := int32(binary.BigEndian.Uint32(b[2:]))
	b = b[6:]
	for ; n > 0; n-- {
		if len(b) < 2 {
			return false
		}
		l := int(binary.BigEndian.Uint16(b))
		if len(b) < 2+l {
			return false
		}
		s.topics[string(b[2:2+l])] = struct{}{}
		b = b[2+l:]
	}
	return true
}
