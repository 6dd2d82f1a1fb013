package api

import (
	"fmt"
	"slices"
	"testing"

	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// levels are the features that clients look for, in the order in which they are told.
var levels = []struct {
	name  string
	level int16
	needs kafkaproto.Key
}{
	{"group.version", 1, kafkaproto.KeyConsumerGroupHeartbeat},
	{"share.version", 1, kafkaproto.KeyShareFetch},
	{"transaction.version", 2, kafkaproto.KeyEndTxn},
}

// told is what ApiVersions says of features: those that are supported, as name:min-max, and those that are finalized.
func told(c *client, version int16) (supported, finalized []string, epoch int64) {
	c.t.Helper()
	q := kmsg.NewPtrApiVersionsRequest()
	q.ClientSoftwareName, q.ClientSoftwareVersion = "test", "1"
	resp := ask[*kmsg.ApiVersionsResponse](c, q, version)
	if resp.ErrorCode != 0 {
		c.t.Fatalf("version %d: %v", version, kafkaproto.Code(resp.ErrorCode))
	}
	for _, f := range resp.SupportedFeatures {
		supported = append(supported, fmt.Sprintf("%s:%d-%d", f.Name, f.MinVersion, f.MaxVersion))
	}
	for _, f := range resp.FinalizedFeatures {
		finalized = append(finalized, fmt.Sprintf("%s:%d-%d", f.Name, f.MinVersionLevel, f.MaxVersionLevel))
	}
	return supported, finalized, resp.FinalizedFeaturesEpoch
}

// TestFinalizedFeatures: ApiVersions tells of group.version, share.version and transaction.version that they are supported, from
// version 4 on, whose clients know a range that begins with 0, and at which level they are finalized.
func TestFinalizedFeatures(t *testing.T) {
	a := newNode(t).api
	c := newClient(t, a)
	var ranges, fixed []string
	for _, f := range levels {
		ranges = append(ranges, fmt.Sprintf("%s:0-%d", f.name, f.level))
		fixed = append(fixed, fmt.Sprintf("%s:%d-%d", f.name, f.level, f.level))
	}
	for version := apiVersionsRow.Min; version <= apiVersionsRow.Max; version++ {
		supported, finalized, epoch := told(c, version)
		switch {
		case version < 3: // there is no room for them
			if len(supported)+len(finalized) > 0 || epoch != -1 {
				t.Errorf("version %d: supported %q, finalized %q at epoch %d", version, supported, finalized, epoch)
			}
			continue
		case version < 4 && len(supported) > 0, version >= 4 && !slices.Equal(supported, ranges):
			t.Errorf("version %d: supported are %q", version, supported)
		}
		if !slices.Equal(finalized, fixed) || epoch < 0 { // -1 tells that nothing is known of them
			t.Errorf("version %d: finalized are %q at epoch %d", version, finalized, epoch)
		}
	}
	for i, f := range levels {
		row := a.byKey[f.needs]
		a.byKey[f.needs] = nil
		supported, finalized, _ := told(c, 4)
		if slices.Contains(supported, ranges[i]) || slices.Contains(finalized, fixed[i]) || len(finalized) != len(levels)-1 {
			t.Errorf("without %s: supported %q, finalized %q", f.needs, supported, finalized)
		}
		a.byKey[f.needs] = row
	}
}

// A feature has the one level that the program has: UpdateFeatures grants that, and nothing else.
func TestUpdateFeatures(t *testing.T) {
	c := newClient(t, newNode(t).api)
	const none, fixed, invalid = kafkaproto.None, kafkaproto.FeatureUpdateFailed, kafkaproto.InvalidUpdateVersion
	for _, f := range levels {
		checkUpdate(c, f.name, f.level, featureUpgrade, none)
		checkUpdate(c, f.name, f.level, featureSafeDowngrade, none)
		checkUpdate(c, f.name, f.level, featureUnsafeDowngrade, none)
		checkUpdate(c, f.name, f.level, 0, invalid)
		checkUpdate(c, f.name, f.level, 4, invalid)
		checkUpdate(c, f.name, f.level, -1, invalid)
		for _, level := range []int16{-1, -1 << 15, f.level + 1, 1<<15 - 1} {
			checkUpdate(c, f.name, level, featureUpgrade, invalid)
			checkUpdate(c, f.name, level, featureSafeDowngrade, invalid)
		}
		for level := range f.level {
			checkUpdate(c, f.name, level, featureUpgrade, invalid)
			checkUpdate(c, f.name, level, featureSafeDowngrade, fixed)
			checkUpdate(c, f.name, level, featureUnsafeDowngrade, fixed)
		}
	}
	for _, name := range []string{"no.such.feature", "", "GROUP.VERSION", "kraft.version"} {
		checkUpdate(c, name, 1, featureUpgrade, invalid)
		checkUpdate(c, name, 0, featureSafeDowngrade, invalid)
	}
	if _, finalized, _ := told(c, 4); len(finalized) != len(levels) || finalized[2] != "transaction.version:2-2" {
		t.Errorf("afterwards %q are finalized", finalized)
	}
}

// checkUpdate asks for a level in each version that can say it: version 0 knows upgrades and downgrades only.
func checkUpdate(c *client, name string, level int16, kind int8, want kafkaproto.Code) {
	c.t.Helper()
	for version := updateFeaturesRow.Min; version <= updateFeaturesRow.Max; version++ {
		if version < 1 && kind != featureUpgrade && kind != featureSafeDowngrade {
			continue
		}
		q := kmsg.NewPtrUpdateFeaturesRequest()
		u := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
		u.Feature, u.MaxVersionLevel, u.UpgradeType, u.AllowDowngrade = name, level, kind, kind == featureSafeDowngrade
		q.FeatureUpdates = append(q.FeatureUpdates, u)
		resp := ask[*kmsg.UpdateFeaturesResponse](c, q, version)
		got := resp.ErrorCode
		if version < 2 {
			if got != 0 || len(resp.Results) != 1 || resp.Results[0].Feature != name {
				c.t.Fatalf("%s, version %d: %+v", name, version, resp)
			}
			got = resp.Results[0].ErrorCode
		}
		if kafkaproto.Code(got) != want {
			c.t.Errorf("%s at %d, kind %d, version %d: %v, want %v", name, level, kind, version, kafkaproto.Code(got), want)
		}
	}
}

// From version 2 on there is one error for all features: that of the first that can't be had, wherever it stands.
func TestUpdateFeaturesTogether(t *testing.T) {
	c := newClient(t, newNode(t).api)
	q := kmsg.NewPtrUpdateFeaturesRequest()
	want := []kafkaproto.Code{kafkaproto.None, kafkaproto.FeatureUpdateFailed, kafkaproto.InvalidUpdateVersion}
	for i, f := range levels {
		u := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
		u.Feature, u.MaxVersionLevel, u.UpgradeType = f.name, []int16{f.level, 0, f.level + 1}[i], []int8{1, 2, 1}[i]
		q.FeatureUpdates = append(q.FeatureUpdates, u)
	}
	var got []kafkaproto.Code
	for _, r := range ask[*kmsg.UpdateFeaturesResponse](c, q, 1).Results {
		got = append(got, kafkaproto.Code(r.ErrorCode))
	}
	if !slices.Equal(got, want) {
		t.Errorf("one by one: %v, want %v", got, want)
	}
	resp := ask[*kmsg.UpdateFeaturesResponse](c, q, 2)
	wantError(t, "together", resp.ErrorCode, want[1])
	if resp.ErrorMessage == nil || len(resp.Results) > 0 {
		t.Errorf("together: %+v", resp)
	}
}
