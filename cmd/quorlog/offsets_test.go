package main

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// A node that was killed a moment ago is a reason to ask again, whether it was asked for metadata or for its partitions' offsets.
func TestOffsetsOutlastADeadNode(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	for name, c := range map[string]struct {
		err  error
		want int // calls
	}{
		"asked for metadata": {refused, 2},
		"asked for offsets":  {&kadm.ShardErrors{Name: "ListOffsets", Errs: []kadm.ShardError{{Err: refused}}}, 2},
		"being elected":      {kerr.LeaderNotAvailable, 2},
		"not allowed":        {kerr.TopicAuthorizationFailed, 1},
		"an unknown name":    {&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", IsNotFound: true}}, 1},
		"a firewall":         {&net.OpError{Op: "dial", Err: syscall.EACCES}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			_, err := offsetsOf(t.Context(), func(context.Context, ...string) (kadm.ListedOffsets, error) {
				if calls++; calls == 1 {
					return nil, c.err
				}
				return kadm.ListedOffsets{}, nil
			}, []string{"words"})
			if calls != c.want || (err == nil) != (c.want > 1) {
				t.Errorf("%d calls, want %d; error: %v", calls, c.want, err)
			}
		})
	}
}

// A group's lag waits for leaders, too, whoever of those that are asked could not be: kadm tells that in each partition only.
func TestLagOutlastsADeadNode(t *testing.T) {
	lagWith := func(err error) kadm.GroupLag {
		return kadm.GroupLag{"words": {0: {Topic: "words", Lag: -1, Err: err}}}
	}
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for name, c := range map[string]struct {
		first kadm.DescribedGroupLag
		want  int // calls
		fails bool
	}{
		"a leader that is dead":       {kadm.DescribedGroupLag{Lag: lagWith(errors.New("missing from list offsets"))}, 2, false},
		"a leader that is elected":    {kadm.DescribedGroupLag{Lag: lagWith(kerr.NotLeaderForPartition)}, 2, false},
		"a topic that is no more":     {kadm.DescribedGroupLag{Lag: lagWith(kerr.UnknownTopicOrPartition)}, 1, false},
		"a coordinator that is dead":  {kadm.DescribedGroupLag{FetchErr: refused}, 2, false},
		"a group that is not allowed": {kadm.DescribedGroupLag{DescribeErr: kerr.GroupAuthorizationFailed}, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			_, err := lagOf(t.Context(), func(_ context.Context, groups ...string) (kadm.DescribedGroupLags, error) {
				if calls++; calls == 1 {
					return kadm.DescribedGroupLags{groups[0]: c.first}, nil
				}
				return kadm.DescribedGroupLags{groups[0]: {}}, nil
			}, "g")
			if calls != c.want || (err != nil) != c.fails {
				t.Errorf("%d calls, want %d; error: %v", calls, c.want, err)
			}
		})
	}
}
