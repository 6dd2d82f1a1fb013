package api

import (
	"context"
	"fmt"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/conn"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions, key 18, versions 0 to 5.
//
//	v3         flexible; the client's name and version, which must be well-formed (KIP-511); features (KIP-584)
//	v4         features with a minimum of 0
//	v5         the cluster and broker that the client means to reach (KIP-1242)
//
// It is the first request of most clients, and the only key whose unknown versions get an answer: UNSUPPORTED_VERSION in
// the format of v0, with the range of key 18, whose response header is never flexible (KIP-511).
var apiVersionsRow = Row{Key: kafkaproto.KeyApiVersions, Min: 0, Max: 5, AdvertisedMin: 0, Handler: handler(handleApiVersions)}

const (
	apiVersionsSoftware    = 3
	apiVersionsMinZero     = 4
	apiVersionsRebootstrap = 5
)

// maxSoftware is the most of a client's name or version that is kept; honest ones are a few words long.
const maxSoftware = 128

func handleApiVersions(_ context.Context, a *API, r *Request, q *kmsg.ApiVersionsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrApiVersionsResponse()
	if err := greet(a, r, q); err != nil {
		resp.ErrorCode = code(err)
		return resp, nil
	}
	resp.ApiKeys = make([]kmsg.ApiVersionsResponseApiKey, len(a.rows))
	for i := range a.rows {
		row := &a.rows[i]
		k := &resp.ApiKeys[i]
		k.ApiKey, k.MinVersion, k.MaxVersion = int16(row.Key), row.AdvertisedMin, row.Max
	}
	for _, f := range a.features() {
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, kmsg.ApiVersionsResponseFinalizedFeature{
			Name: f.name, MinVersionLevel: f.level, MaxVersionLevel: f.level,
		})
		if q.Version < apiVersionsMinZero {
			continue // the range begins with 0, which such a client takes for an error
		}
		resp.SupportedFeatures = append(resp.SupportedFeatures, kmsg.ApiVersionsResponseSupportedFeature{Name: f.name, MinVersion: 0, MaxVersion: f.level})
	}
	resp.FinalizedFeaturesEpoch = featuresEpoch
	return resp, nil
}

// greet checks and notes who the client says it is and whom it means to reach.
func greet(a *API, r *Request, q *kmsg.ApiVersionsRequest) error {
	if q.Version < apiVersionsSoftware {
		return nil
	}
	if !wellFormed(q.ClientSoftwareName) || !wellFormed(q.ClientSoftwareVersion) {
		return fmt.Errorf("%w: client software name or version", replication.ErrInvalidRequest)
	}
	r.Session.SetSoftware(q.ClientSoftwareName, q.ClientSoftwareVersion)
	if q.Version < apiVersionsRebootstrap {
		return nil
	}
	return a.Admin.CheckTarget(admin.Target{ClusterID: q.ClusterID, Node: replication.NodeID(q.NodeID)})
}

// wellFormed tells whether a name consists of letters, digits, dots and hyphens, and neither starts nor ends with one of
// the latter two.
func wellFormed(s string) bool {
	if s == "" || len(s) > maxSoftware {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		inner := (c == '-' || c == '.') && i > 0 && i < len(s)-1
		if !alphanumeric && !inner {
			return false
		}
	}
	return true
}

// apiVersionsMismatch answers an ApiVersions request of a version that is not known.
func (a *API) apiVersionsMismatch() conn.Call {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = int16(kafkaproto.UnsupportedVersion)
	resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{{
		ApiKey: int16(kafkaproto.KeyApiVersions), MinVersion: apiVersionsRow.AdvertisedMin, MaxVersion: apiVersionsRow.Max,
	}}
	return answered{reply(resp, 0)}
}

// answered is a call whose answer is there already.
type answered struct{ reply conn.Reply }

// Finish returns the answer.
func (c answered) Finish(context.Context) (conn.Reply, error) { return c.reply, nil }
