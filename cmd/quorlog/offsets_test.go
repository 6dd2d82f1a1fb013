package main

import (
	"context"
	"errors"
	"net"
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
