package agent

import (
	"context"
	"time"

	"github.com/quorlog/quorlog/internal/otlp"
	"github.com/quorlog/quorlog/internal/trace"
)

// tracesPatience bounds how long a node that stops waits for its last traces to be sent.
const tracesPatience = 2 * time.Second

// openTraces makes what sends traces, if the node is told where to; else there is none.
func openTraces(a *Agent) (trace.Tracer, error) {
	if a.node.TracesEndpoint == "" {
		return nil, nil
	}
	e, err := otlp.Open(otlp.Options{
		Endpoint: a.node.TracesEndpoint, Node: int(a.node.NodeID), Cluster: a.controller.Image().ClusterID, Version: a.config.Version,
		Logger: a.levels.Logger("traces"),
	})
	if err != nil {
		return nil, err
	}
	a.traces = e
	return e, nil
}

// closeTraces sends what is left. That nobody takes it is no failure of the stop.
func closeTraces(ctx context.Context, a *Agent) {
	if a.traces == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tracesPatience)
	defer cancel()
	if err := a.traces.Close(ctx); err != nil {
		a.logger.Debug("the last traces were not sent", "error", err)
	}
}
