package api

import (
	"context"

	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// UpdateFeatures, key 57, versions 0 to 2 (KIP-584), flexible.
//
//	v1         kinds of upgrades; validating only (KIP-778)
//	v2         one error for all instead of one for each feature
//
// Features come with the program and are always on at their level, so a request for this level succeeds, and any other fails:
// INVALID_UPDATE_VERSION for one that does not exist, and for a lower one unless the client says that it means a downgrade, which
// is FEATURE_UPDATE_FAILED.
var updateFeaturesRow = Row{Key: kafkaproto.KeyUpdateFeatures, Min: 0, Max: 2, AdvertisedMin: 0, Handler: handler(handleUpdateFeatures)}

const (
	updateFeaturesKinds    = 1
	updateFeaturesOneError = 2
)

func handleUpdateFeatures(_ context.Context, a *API, r *Request, q *kmsg.UpdateFeaturesRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrUpdateFeaturesResponse()
	for i := range q.FeatureUpdates {
		u := &q.FeatureUpdates[i]
		kind := u.UpgradeType
		if r.Header.Version < updateFeaturesKinds {
			if kind = featureUpgrade; u.AllowDowngrade {
				kind = featureSafeDowngrade
			}
		}
		err := a.setFeature(u.Feature, u.MaxVersionLevel, kind)
		if r.Header.Version >= updateFeaturesOneError {
			if err != nil && resp.ErrorCode == 0 {
				resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
			}
			continue
		}
		result := kmsg.NewUpdateFeaturesResponseResult()
		result.Feature, result.ErrorCode, result.ErrorMessage = u.Feature, code(err), message(err)
		resp.Results = append(resp.Results, result)
	}
	return resp, nil
}
