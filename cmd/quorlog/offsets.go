package main

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// electionPatience is how long a command waits for leaders that are being elected. A killed leader is replaced in a second.
const electionPatience = 15 * time.Second

// leaderless tells whether err is about partitions without a leader, or with one that is dead or that the client does not know yet.
func leaderless(err error) bool {
	return errors.Is(err, kerr.LeaderNotAvailable) || errors.Is(err, kerr.NotLeaderForPartition) ||
		errors.Is(err, kerr.FencedLeaderEpoch) || errors.Is(err, kerr.UnknownLeaderEpoch) || unreachable(err)
}

// unreachable tells whether err is a node's that can't be dialled. A command has reached another one before it asks.
func unreachable(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// patiently asks again while leaders are being elected, which kadm does not.
func patiently[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	late := time.Now().Add(electionPatience)
	for {
		answer, err := ask()
		if err == nil || !leaderless(err) || time.Now().After(late) {
			return answer, err
		}
		if err := wait(ctx, lookAgain); err != nil {
			return answer, err
		}
	}
}

// offsetsOf lists offsets of every partition.
func offsetsOf(ctx context.Context, list func(context.Context, ...string) (kadm.ListedOffsets, error), topics []string) (kadm.ListedOffsets, error) {
	return patiently(ctx, func() (kadm.ListedOffsets, error) {
		listed, err := list(ctx, topics...)
		if err == nil {
			err = listed.Error()
		}
		return listed, err
	})
}

// topicsOf lists the topics that are named, or all.
func topicsOf(ctx context.Context, list func(context.Context, ...string) (kadm.TopicDetails, error), topics ...string) (kadm.TopicDetails, error) {
	return patiently(ctx, func() (kadm.TopicDetails, error) { return list(ctx, topics...) })
}
