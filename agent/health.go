package agent

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/quorlog/quorlog/replication"
)

// check is one thing that must be so for a node to be well.
type check struct {
	name   string
	reason string // why it is not so; empty if it is
	told   bool   // the reason is told to whoever asks for all, but does not count
}

func (c *check) fails() bool { return c.reason != "" && !c.told }

// health answers probes: 200 if all checks hold, else 503. The query "verbose" lists them; a probe that fails lists them in any
// case, for whoever looks at its answer.
func health(look func(context.Context) []check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		checks := look(r.Context())
		failed := false
		var b strings.Builder
		for _, c := range checks {
			if c.reason == "" {
				fmt.Fprintf(&b, "[+] %s ok\n", c.name)
				continue
			}
			mark := "!"
			if c.fails() {
				failed, mark = true, "-"
			}
			fmt.Fprintf(&b, "[%s] %s: %s\n", mark, c.name, c.reason)
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		switch {
		case failed:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, b.String(), "failed\n")
		case r.URL.Query().Has("verbose"):
			fmt.Fprint(w, b.String(), "ok\n")
		default:
			fmt.Fprint(w, "ok\n")
		}
	})
}

// alive tells whether the process should go on: no call of the disk hangs, and nothing has failed that ends it. Whether it can
// serve at the moment is none of this: a restart would not help.
func (w *web) alive(context.Context) []check {
	a := w.node
	out := []check{{name: "process"}, {name: "disk"}}
	if err := a.failed.Load(); err != nil {
		out[0].reason = (*err).Error()
	}
	if op, hangs := a.watch.Hanging(); hangs {
		out[1].reason = op + " does not return"
	}
	return out
}

// ready tells whether clients should come here. Partitions without a leader and a full disk count only until the node was ready once,
// so that a rolling restart waits for them. Afterwards they are told, no more: they are seldom one node's alone, no other node would
// serve the client better, and if all nodes said so at once, clients would find nobody to begin at, though most of what they want is there.
// Until the node has caught up it asks others, no longer than ctx.
func (w *web) ready(ctx context.Context) []check {
	a := w.node
	if a.stopping.Load() {
		return []check{{name: "running", reason: "the node stops"}}
	}
	if !a.serving.Load() {
		return []check{{name: "running", reason: "the node starts"}}
	}
	im := a.controller.Image()
	out := []check{{name: "running"}, {name: "metadata"}, {name: "drain"}, {name: "partitions"}, {name: "replicas"}, {name: "space"}}
	if a.controller.ControllerNode() == replication.NoNode {
		out[1].reason = "no leader of the metadata is known: the cluster has no majority, or this node is cut off from it"
	}
	if im.Draining(a.node.NodeID) {
		out[2].reason = "the node is drained; `quorlog node undrain` ends that"
	}
	leaderless, replicas := 0, a.partitions.All()
	for _, p := range replicas {
		if p.Err() == nil && p.Leader().Node == replication.NoNode {
			leaderless++
		}
	}
	if leaderless > 0 {
		out[3].reason = fmt.Sprintf("%d of %d have no leader", leaderless, len(replicas))
	}
	out[4].reason = catchingUpAtStart(ctx, a)
	if a.partitions.Full() {
		out[5].reason = "the disk is nearly full: no records are taken"
	}
	was := w.wasReady.Load()
	out[3].told, out[5].told = was, was
	if !was && well(out) {
		w.wasReady.Store(true)
	}
	return out
}
