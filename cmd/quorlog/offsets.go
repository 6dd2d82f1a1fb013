package main

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// electionPatience is how long a command waits for leaders that are being elected. A killed leader is replaced in a second.
const electionPatience = 15 * time.Second

// leaderless tells whether err is about partitions without a leader, or with one that the client does not know yet.
func leaderless(err error) bool {
	return errors.Is(err, kerr.LeaderNotAvailable) || errors.Is(err, kerr.NotLeaderForPartition) ||
		errors.Is(err, kerr.FencedLeaderEpoch) || errors.Is(err, kerr.UnknownLeaderEpoch)
}

// offsetsOf lists offsets of every partition. It waits for those whose leader is being elected, which kadm does not.
func offsetsOf(ctx context.Context, list func(context.Context, ...string) (kadm.ListedOffsets, error), topics []string) (kadm.ListedOffsets, error) {
	late := time.Now().Add(electionPatience)
	for {
		listed, err := list(ctx, topics...)
		if err == nil {
			err = listed.Error()
		}
		if err == nil || !leaderless(err) || time.Now().After(late) {
			return listed, err
		}
		if err := wait(ctx, lookAgain); err != nil {
			return nil, err
		}
	}
}
