package api

import (
	"errors"
	"fmt"

	"github.com/quorlog/quorlog/kafkaproto"
)

// feature is a protocol that clients use once they see its level (KIP-584).
type feature struct {
	name  string
	level int16          // the only one: the nodes have it, or they do not
	needs kafkaproto.Key // served where the feature is there
}

// features is what ApiVersions tells, and UpdateFeatures is asked for. A feature is finalized as soon as its key is served.
var features = []feature{
	{"group.version", 1, kafkaproto.KeyConsumerGroupHeartbeat}, // KIP-848
	{"share.version", 1, kafkaproto.KeyShareFetch},             // KIP-932
	{"transaction.version", 2, kafkaproto.KeyEndTxn},           // KIP-890
}

// featuresEpoch is that of the finalized features, which never change while a node runs.
const featuresEpoch = 1

// features lists those that are served.
func (a *API) features() []feature {
	var out []feature
	for _, f := range features {
		if a.row(f.needs) != nil {
			out = append(out, f)
		}
	}
	return out
}

var (
	errUpdateVersion = errors.New("no such level")
	errFeatureFixed  = errors.New("the feature can't be changed")
)

// What a client says of the level that it asks for (KIP-778).
const (
	featureUpgrade         = 1
	featureSafeDowngrade   = 2
	featureUnsafeDowngrade = 3
)

// setFeature answers the wish for a level of a feature: only the one that is there can be had. What Kafka would refuse gets
// Kafka's reason; a downgrade that is meant is what we do not have.
func (a *API) setFeature(name string, level int16, kind int8) error {
	for _, f := range a.features() {
		switch {
		case f.name != name:
		case kind < featureUpgrade || kind > featureUnsafeDowngrade:
			return fmt.Errorf("%w: %s: there is no kind %d of updates", errUpdateVersion, name, kind)
		case level == f.level:
			return nil
		case level < 0 || level > f.level:
			return fmt.Errorf("%w: %s has level %d", errUpdateVersion, name, f.level)
		case kind == featureUpgrade:
			return fmt.Errorf("%w: %s: level %d is a downgrade from %d, which the update does not say", errUpdateVersion, name, level, f.level)
		default:
			return fmt.Errorf("%w: %s stays at level %d", errFeatureFixed, name, f.level)
		}
	}
	return fmt.Errorf("%w: there is no feature %.100q", errUpdateVersion, name)
}
