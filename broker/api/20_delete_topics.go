package api

import (
	"context"
	"errors"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteTopics, key 20, versions 1 to 6.
//
//	v3         TOPIC_DELETION_DISABLED instead of INVALID_REQUEST (KIP-322)
//	v4         flexible
//	v5         error messages
//	v6         topic ids (KIP-516)
//
// A topic that the request names twice, or by name and id at once, is INVALID_REQUEST.
var deleteTopicsRow = Row{Key: kafkaproto.KeyDeleteTopics, Min: 1, Max: 6, AdvertisedMin: 1, Handler: handler(handleDeleteTopics)}

const (
	deleteTopicsDisabledCode = 3
	deleteTopicsByID         = 6
)

func handleDeleteTopics(ctx context.Context, a *API, _ *Request, q *kmsg.DeleteTopicsRequest) (kmsg.Response, error) {
	ctx, cancel := within(ctx, q.TimeoutMillis)
	defer cancel()
	var refs []admin.TopicRef
	if q.Version < deleteTopicsByID {
		for _, name := range q.TopicNames {
			refs = append(refs, admin.TopicRef{Name: name})
		}
	} else {
		for i := range q.Topics {
			ref := admin.TopicRef{ID: q.Topics[i].TopicID}
			if name := q.Topics[i].Topic; name != nil {
				ref.Name = *name
			}
			refs = append(refs, ref)
		}
	}
	resp := kmsg.NewPtrDeleteTopicsResponse()
	for _, deleted := range a.Admin.DeleteTopics(ctx, refs) {
		rt := kmsg.NewDeleteTopicsResponseTopic()
		if deleted.Name != "" || deleted.ID == (replication.TopicID{}) {
			rt.Topic = &deleted.Name
		}
		rt.TopicID, rt.ErrorCode, rt.ErrorMessage = deleted.ID, code(deleted.Err), message(deleted.Err)
		if q.Version < deleteTopicsDisabledCode && errors.Is(deleted.Err, controller.ErrTopicDeletionDisabled) {
			rt.ErrorCode = code(replication.ErrInvalidRequest)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}
