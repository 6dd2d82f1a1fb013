package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A group's members live by the times that it has set for itself, whichever node coordinates it, and those of others by the nodes'.
// What is beyond the nodes' bounds is refused.
func TestGroupTimes(t *testing.T) {
	c := startCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cl := newClient(t, seeds(c))
	set := func(group, name, value string) error {
		req, r := kmsg.NewPtrIncrementalAlterConfigsRequest(), kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
		r.Configs = []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: name, Value: &value}}
		req.Resources = append(req.Resources, r)
		for {
			resp, err := req.RequestWith(ctx, cl)
			if err != nil {
				t.Fatal(err)
			}
			if err := kerr.ErrorForCode(resp.Resources[0].ErrorCode); !kerr.IsRetriable(err) || ctx.Err() != nil {
				return err
			}
		}
	}
	consumers := func(group string) (int16, int32, error) {
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.RebalanceTimeoutMillis = group, "m", 60_000
		req.SubscribedTopicNames, req.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return 0, 0, err
		}
		return resp.ErrorCode, resp.HeartbeatIntervalMillis, nil
	}
	shares := func(group string) (int16, int32, error) {
		req := kmsg.NewPtrShareGroupHeartbeatRequest()
		req.GroupID, req.MemberID, req.SubscribedTopicNames = group, "m", []string{"t"}
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return 0, 0, err
		}
		return resp.ErrorCode, resp.HeartbeatIntervalMillis, nil
	}
	check := func(group string, join func(string) (int16, int32, error), want int32) {
		t.Helper()
		code, interval, err := join(group)
		// The coordinator may not be there yet, and its node not have heard of the change: that is waited for, but not for ever.
		for (kerr.IsRetriable(err) || err == nil && (kerr.IsRetriable(kerr.ErrorForCode(code)) || code == 0 && interval != want)) && ctx.Err() == nil {
			code, interval, err = join(group)
		}
		if err != nil || code != 0 || interval != want {
			t.Errorf("%s: %v, %v, a heartbeat every %d ms, expected %d", group, kerr.ErrorForCode(code), err, interval, want)
		}
	}
	for i := range 6 {
		group := fmt.Sprint("own-", i)
		if err := errors.Join(set(group, "consumer.heartbeat.interval.ms", "7000"), set(group+"-share", "share.heartbeat.interval.ms", "8000")); err != nil {
			t.Fatal(err)
		}
		check(group, consumers, 7000)
		check(group+"-share", shares, 8000)
	}
	check("other", consumers, 5000)
	check("other-share", shares, 5000)
	if err := set("own-0", "consumer.session.timeout.ms", "60001"); !errors.Is(err, kerr.InvalidConfig) {
		t.Errorf("a session longer than group.consumer.max.session.timeout.ms: %v", err)
	}
}
