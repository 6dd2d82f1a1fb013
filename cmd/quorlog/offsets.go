package main

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// electionPatience is how long a command waits for leaders that are being elected. A killed leader is replaced in a second.
const electionPatience = 15 * time.Second

// errUnknownEnd says that a partition's leader has not told where it ends.
var errUnknownEnd = errors.New("a partition's leader does not answer")

// leaderless tells whether err is about partitions without a leader, or with one that is dead or that the client does not know yet.
func leaderless(err error) bool {
	return errors.Is(err, errUnknownEnd) || errors.Is(err, kerr.LeaderNotAvailable) || errors.Is(err, kerr.NotLeaderForPartition) ||
		errors.Is(err, kerr.FencedLeaderEpoch) || errors.Is(err, kerr.UnknownLeaderEpoch) || unreachable(err)
}

// unreachable tells whether err is of a node that can't be dialled just now. A command has reached another one before it asks. An address
// that is not known, or not allowed, will not be better soon.
func unreachable(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	name, isName := errors.AsType[*net.DNSError](err)
	return ok && op.Op == "dial" && (!isName || !name.IsNotFound) && !errors.Is(err, os.ErrPermission)
}

// patiently asks again while the error says that a leader is being elected, or that a node is dead; kadm does not.
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

// lagOf describes a group and its lag. Partitions of which the end is not known for long have an error.
func lagOf(ctx context.Context, lag func(context.Context, ...string) (kadm.DescribedGroupLags, error), group string) (kadm.DescribedGroupLag, error) {
	described, err := patiently(ctx, func() (kadm.DescribedGroupLag, error) {
		all, err := lag(ctx, group)
		described := all[group]
		if err == nil {
			err = described.Error()
		}
		for _, l := range described.Lag.Sorted() {
			if answered, _ := errors.AsType[*kerr.Error](l.Err); err == nil && l.Err != nil && (answered == nil || leaderless(answered)) {
				err = errUnknownEnd
			}
		}
		return described, err
	})
	if errors.Is(err, errUnknownEnd) {
		err = nil
	}
	return described, err
}

// topicsOf lists the topics that are named, or all. Partitions without a leader are no error: they show as such.
func topicsOf(ctx context.Context, list func(context.Context, ...string) (kadm.TopicDetails, error), topics ...string) (kadm.TopicDetails, error) {
	return patiently(ctx, func() (kadm.TopicDetails, error) { return list(ctx, topics...) })
}
