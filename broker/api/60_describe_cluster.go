package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster, key 60, versions 0 to 2 (KIP-700), always flexible.
//
//	v1         brokers or controllers may be asked for (KIP-919)
//	v2         fenced brokers too, if they are asked for: registered ones that have been gone for a while (KIP-1073)
//
// A broker answers for brokers only: controllers are MISMATCHED_ENDPOINT_TYPE, anything else UNSUPPORTED_ENDPOINT_TYPE.
var describeClusterRow = Row{Key: kafkaproto.KeyDescribeCluster, Min: 0, Max: 2, AdvertisedMin: 0, Handler: handler(handleDescribeCluster)}

// Endpoint types of DescribeCluster.
const (
	endpointBrokers     = 1
	endpointControllers = 2
)

func handleDescribeCluster(_ context.Context, a *API, r *Request, q *kmsg.DescribeClusterRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.ClusterAuthorizedOperations = notAsked
	var err error
	switch q.EndpointType {
	case endpointBrokers:
	case endpointControllers:
		err = admin.ErrMismatchedEndpoint
	default:
		err = admin.ErrUnsupportedEndpoint
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage, resp.EndpointType = code(err), message(err), q.EndpointType
		return resp, nil
	}
	cluster := a.Admin.Cluster()
	resp.EndpointType, resp.ClusterID, resp.ControllerID = endpointBrokers, cluster.ID, int32(cluster.Controller)
	for _, n := range atListener(cluster.Nodes, r.Session.Listener()) {
		resp.Brokers = append(resp.Brokers, describedBroker(n, false))
	}
	if q.IncludeFencedBrokers {
		for _, n := range atListener(cluster.Fenced, r.Session.Listener()) {
			resp.Brokers = append(resp.Brokers, describedBroker(n, true))
		}
	}
	return resp, nil
}

func describedBroker(n replication.Node, fenced bool) kmsg.DescribeClusterResponseBroker {
	b := kmsg.NewDescribeClusterResponseBroker()
	b.NodeID, b.Host, b.Port, b.Rack, b.IsFenced = int32(n.ID), n.Host, n.Port, rack(n.Rack), fenced
	return b
}
