package conn

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/kafkaproto"
)

// The time of a request counts from its arrival, with that of those ahead of it, by its key.
func TestTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := onPipe(t, dispatcher(func(_ context.Context, _ *Session, h kafkaproto.RequestHeader, _ []byte) Call {
			return finish(func(context.Context) (Reply, error) {
				if h.Key == fetch {
					time.Sleep(3 * time.Second)
				}
				return Reply{Body: kafkaproto.Bytes(nil)}, nil
			})
		}), Options{Listener: "INSIDE"})
		defer h.Close()
		c := h.dial(t)
		c.send(fetch, 1, "")
		c.send(metadata, 2, "")
		c.expect(1, "")
		c.expect(2, "")
		c.send(metadata, 3, "")
		c.expect(3, "")
		s := h.Stats()
		if took := s.Took[fetch]; took.Count != 1 || took.Sum != 3*time.Second {
			t.Errorf("fetch: %+v", took)
		}
		if took := s.Took[metadata]; took.Count != 2 || took.Sum != 3*time.Second || took.Below[0] != 1 {
			t.Errorf("metadata: %+v", took)
		}
		if len(s.Took) != 2 || len(s.Listeners) != 1 || s.Listeners["INSIDE"] != 1 {
			t.Errorf("%+v", s)
		}
	})
}
