package membership

import (
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/quorlog/quorlog/replication"
)

// A node's description travels in Serf's tags, which have 512 bytes together. A tag that a later version adds is ignored.
const (
	tagAddr      = "addr"
	tagRack      = "rack"
	tagVersion   = "ver"
	tagCluster   = "cluster"
	tagDirectory = "dir"
	tagExpect    = "expect"
	tagFresh     = "fresh"
	tagBoot      = "boot"
)

// tagOverhead bounds what the encoding adds: a magic byte and the map's head, and up to three bytes before each string.
const (
	tagOverhead    = 8
	stringOverhead = 3
)

func (m Member) tags() (map[string]string, error) {
	tags := map[string]string{
		tagAddr: m.Addr, tagRack: m.Rack, tagVersion: m.Version, tagCluster: m.Cluster,
		tagDirectory: base64.RawURLEncoding.EncodeToString(m.Directory[:]),
		tagExpect:    strconv.Itoa(m.Expect), tagFresh: strconv.FormatBool(m.Fresh), tagBoot: strconv.FormatInt(m.boot, 36),
	}
	size := tagOverhead
	for name, value := range tags {
		if value == "" {
			delete(tags, name)
			continue
		}
		size += len(name) + len(value) + 2*stringOverhead
	}
	if size > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("%w: %d bytes, %d are allowed", ErrTooLong, size, memberlist.MetaMaxSize)
	}
	return tags, nil
}

// memberOf is what Serf knows of a member, if it is one of ours.
func memberOf(m serf.Member) (Member, bool) {
	id, err := strconv.ParseInt(m.Name, 10, 32)
	if err != nil || id < 0 {
		return Member{}, false
	}
	out := Member{
		Node: replication.NodeID(id), Addr: m.Tags[tagAddr], Rack: m.Tags[tagRack], Version: m.Tags[tagVersion], Cluster: m.Tags[tagCluster],
		Fresh: m.Tags[tagFresh] == "true", Gossip: gossipAddr(m), Status: statusOf(m.Status),
	}
	dir, err := base64.RawURLEncoding.DecodeString(m.Tags[tagDirectory])
	if err != nil || len(dir) != len(out.Directory) || out.Status == 0 {
		return Member{}, false
	}
	copy(out.Directory[:], dir)
	// Numbers that are missing or wrong read as 0, which promises nothing.
	out.Expect, _ = strconv.Atoi(m.Tags[tagExpect])
	out.boot, _ = strconv.ParseInt(m.Tags[tagBoot], 36, 64)
	return out, true
}

// statusOf translates. Members of an alive message have no status yet: they are alive.
func statusOf(s serf.MemberStatus) Status {
	switch s {
	case serf.StatusAlive, serf.StatusNone:
		return Alive
	case serf.StatusFailed:
		return Failed
	case serf.StatusLeaving, serf.StatusLeft:
		return Left
	}
	return 0
}
