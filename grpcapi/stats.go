package grpcapi

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/quorlog/quorlog/internal/latency"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// CallStats are counts of the calls of a method that have ended.
type CallStats struct {
	Took  latency.Snapshot // streams last for as long as their clients want
	Codes map[string]int64 // by the names of the codes of their statuses
}

// Stats tells of the calls since the server began, by their methods' names, such as "quorlog.v1.Records/Produce". Methods that
// nobody has called are left out. What comes by HTTP/JSON is among them.
func (s *Server) Stats() map[string]CallStats {
	out := map[string]CallStats{}
	for method, c := range s.gauge.ended {
		took := c.took.Snapshot()
		if took.Count == 0 {
			continue
		}
		of := CallStats{Took: took, Codes: map[string]int64{}}
		for code := range c.codes {
			if n := c.codes[code].Load(); n > 0 {
				of.Codes[codes.Code(code).String()] = n
			}
		}
		out[strings.TrimPrefix(method, "/")] = of
	}
	return out
}

// callCounts count calls by the full names of the methods that are served. It never changes: what strangers call, and is not
// served, is not counted.
type callCounts map[string]*methodCounts

type methodCounts struct {
	took  latency.Histogram
	codes [codes.Unauthenticated + 1]atomic.Int64 // the last code that there is
}

func countsOf(services map[string]grpc.ServiceInfo) callCounts {
	out := callCounts{}
	for service, info := range services {
		for _, m := range info.Methods {
			out["/"+service+"/"+m.Name] = &methodCounts{}
		}
	}
	return out
}

// add counts a call that has ended.
func (c callCounts) add(method string, took time.Duration, err error) {
	m := c[method]
	if m == nil {
		return
	}
	code := status.Code(err)
	if int(code) >= len(m.codes) {
		code = codes.Unknown
	}
	m.took.Observe(took)
	m.codes[code].Add(1)
}
