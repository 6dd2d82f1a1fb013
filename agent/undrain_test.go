package agent

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/quorlog/quorlog/replication/controller"
)

// A drain that lasts until the node starts again is over after a start; any other stays.
func TestUndrain(t *testing.T) {
	for value, stays := range map[string]bool{"until-restart": false, "true": true} {
		flags := map[string]string{"data-dir": t.TempDir()}
		a := testNode(t, flags, nil)
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		self := controller.Resource{Type: controller.BrokerResource, Name: strconv.Itoa(int(a.node.NodeID))}
		set := []controller.ConfigOp{{Name: controller.DrainSetting, Op: controller.OpSet, Value: value}}
		if err := a.controller.AlterConfigs(t.Context(), self, set, false); err != nil {
			t.Fatal(err)
		}
		if status, _ := httpGet(t, a.Addr(), "/readyz"); status != 503 || !a.draining() {
			t.Errorf("%s: drained, /readyz says %d", value, status)
		}
		if err := a.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		a = testNode(t, flags, nil)
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if stays {
			if !a.draining() {
				t.Errorf("%s did not outlast the restart", value)
			}
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		changed := make(chan struct{}, 1)
		stop := a.controller.Watch(func(_, _ *controller.Image) {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
		for a.draining() {
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatalf("%s: still drained", value)
			}
		}
		stop()
	}
}
