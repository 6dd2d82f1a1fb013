package api

import (
	"context"
	"fmt"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Metadata, key 3, versions 0 to 13.
//
//	v0         an empty list of topics means all
//	v1         null means all, an empty list none; controller, racks, internal topics
//	v2         cluster id
//	v4         topics are created only if the request allows it (KIP-4); before, they always are
//	v5         offline replicas (KIP-112)
//	v7         leader epochs (KIP-320)
//	v8         authorized operations, of the cluster only up to v10 (KIP-430)
//	v9         flexible
//	v10        topic ids in the answer (KIP-516)
//	v12        topics may be asked for by id
//	v13        an error code for the whole answer (KIP-1102)
//
// A topic is created only if the request allows it and auto.create.topics.enable is true; the answer then describes the
// new topic.
var metadataRow = Row{Key: kafkaproto.KeyMetadata, Min: 0, Max: 13, AdvertisedMin: 0, Handler: handler(handleMetadata)}

const (
	metadataNullMeansAll = 1
	metadataMayCreate    = 4
	metadataTopicIDs     = 10
	metadataByTopicID    = 12
)

// notAsked stands for authorized operations that nobody asked for.
const notAsked = -1 << 31

func handleMetadata(ctx context.Context, a *API, r *Request, q *kmsg.MetadataRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrMetadataResponse()
	resp.AuthorizedOperations = notAsked
	cluster := a.Admin.Cluster()
	resp.ClusterID, resp.ControllerID = kmsg.StringPtr(cluster.ID), int32(cluster.Controller)
	for _, n := range atListener(cluster.Nodes, r.Session.Listener()) {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port, b.Rack = int32(n.ID), n.Host, n.Port, rack(n.Rack)
		resp.Brokers = append(resp.Brokers, b)
	}
	all := q.Topics == nil || len(q.Topics) == 0 && q.Version < metadataNullMeansAll
	infos := []admin.TopicInfo{}
	if all {
		infos = a.Admin.AllTopics()
	} else if refs, err := metadataRefs(q); err != nil {
		infos = append(infos, refuseAll(q, err)...)
	} else {
		create := q.Version < metadataMayCreate || q.AllowAutoTopicCreation
		if create {
			// The guard lets pass what exists. By now it may be deleted, and must not come back by who may only see it.
			for i, g := 0, a.gate(r); i < len(refs); i++ {
				refs[i].Known = !g.mayCreate(refs[i].Name)
			}
		}
		infos = a.Admin.Topics(ctx, refs, create)
	}
	resp.Topics = make([]kmsg.MetadataResponseTopic, len(infos))
	for i := range infos {
		fillMetadata(&resp.Topics[i], &infos[i])
	}
	hideLeaders(resp, q.Version, cluster.Nodes, r.Session.Listener())
	return resp, nil
}

func metadataRefs(q *kmsg.MetadataRequest) ([]admin.TopicRef, error) {
	refs := make([]admin.TopicRef, len(q.Topics))
	for i := range q.Topics {
		t := &q.Topics[i]
		if t.Topic != nil {
			refs[i].Name = *t.Topic
		}
		refs[i].ID = t.TopicID
		byID := t.TopicID != replication.TopicID{}
		switch {
		case t.Topic == nil && !byID:
			return nil, fmt.Errorf("%w: a topic has neither name nor id", replication.ErrInvalidRequest)
		case q.Version < metadataByTopicID && (t.Topic == nil || byID):
			return nil, fmt.Errorf("%w: version %d can't ask by topic id", replication.ErrInvalidRequest, q.Version)
		}
	}
	return refs, nil
}

// refuseAll answers each topic of a request with the same error: there is no other room for one before v13.
func refuseAll(q *kmsg.MetadataRequest, err error) []admin.TopicInfo {
	infos := make([]admin.TopicInfo, len(q.Topics))
	for i := range q.Topics {
		if name := q.Topics[i].Topic; name != nil {
			infos[i].Name = *name
		}
		infos[i].ID, infos[i].Err = q.Topics[i].TopicID, err
	}
	return infos
}

func fillMetadata(t *kmsg.MetadataResponseTopic, info *admin.TopicInfo) {
	t.Default()
	t.ErrorCode, t.TopicID, t.IsInternal = code(info.Err), info.ID, info.Internal
	t.AuthorizedOperations = notAsked
	// Only an id that nobody knows has no name, and only versions that ask by id may answer without one.
	if info.Name != "" || info.Err == nil || info.ID == (replication.TopicID{}) {
		t.Topic = &info.Name
	}
	t.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(info.Partitions))
	for i := range info.Partitions {
		p, from := &t.Partitions[i], &info.Partitions[i]
		p.Default()
		p.Partition, p.Leader, p.LeaderEpoch = from.Index, int32(from.Leader.Node), int32(from.Leader.Epoch)
		p.Replicas, p.ISR, p.OfflineReplicas = nodeIDs(from.Replicas), nodeIDs(from.ISR), nodeIDs(from.Offline)
		if from.Leader.Node == replication.NoNode {
			p.ErrorCode = code(admin.ErrLeaderNotAvailable)
		}
	}
}

func nodeIDs(ids []replication.NodeID) []int32 {
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out
}
