package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/auth"
	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/internal/metrics"
	"github.com/quorlog/quorlog/internal/portmux"
	"github.com/quorlog/quorlog/replication"
)

// Limits of the HTTP server. Who needs longer for an answer, such as a stream, sets its own deadlines by
// http.ResponseController.
const (
	webHeaderTime  = 5 * time.Second
	webReadTime    = 30 * time.Second
	webWriteTime   = 30 * time.Second
	webIdleTime    = time.Minute
	webHeaderBytes = 16 << 10
	// webConnections bounds connections. Scrapers and probes need a handful.
	webConnections = 256
	// webCalls bounds the requests for HTTP/JSON at a time, so that whoever sends or takes them slowly leaves room for others.
	webCalls = webConnections / 2
	// webScrapes bounds those for figures.
	webScrapes = 16
	// webProofs bounds the requests for either that still have to prove who sends them. With all three there is room for probes.
	webProofs = webConnections / 4
	// webStopTime is what requests under way have when the node stops.
	webStopTime = 2 * time.Second
)

// web is what the ports answer to HTTP. It serves from the moment that they are open, so that probes have an answer while
// the node starts.
type web struct {
	node   *Agent
	server *http.Server
	mux    *http.ServeMux
	// authorizer decides who may see figures; nil until the node knows.
	authorizer atomic.Pointer[broker.Authorizer]
	// native answers HTTP/JSON; nil until the node serves clients.
	native atomic.Pointer[http.Handler]
	// probes is the listener of --metrics-listen; nil without.
	probes net.Listener
	// observers is what is answered there, without asking who.
	observers *http.ServeMux
	// machine is the name of the machine.
	machine string
	// proofs are the requests that are proving who sends them.
	proofs proofs
	// wasReady: all checks of ready have held at once since the start.
	wasReady atomic.Bool
}

// newWeb makes the server; routes may be added while it serves.
func newWeb(a *Agent) *web {
	machine, _ := os.Hostname() // none: it is known by others
	w := &web{machine: strings.ToLower(machine), node: a, mux: http.NewServeMux(), observers: http.NewServeMux(), proofs: proofs{most: webProofs}}
	w.server = &http.Server{
		Handler: safe(http.HandlerFunc(w.dispatch)), ReadHeaderTimeout: webHeaderTime, ReadTimeout: webReadTime, WriteTimeout: webWriteTime,
		IdleTimeout: webIdleTime, MaxHeaderBytes: webHeaderBytes,
		// What it logs are panics of handlers and the like, never what strangers send.
		ErrorLog: slog.NewLogLogger(a.levels.Logger("http").Handler(), slog.LevelError),
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, webConnKey{}, nc)
		},
	}
	return w
}

// webConnKey is that of the connection in the context of a request.
type webConnKey struct{}

// dispatch answers a request by what is served where it came in.
func (w *web) dispatch(rw http.ResponseWriter, r *http.Request) {
	c, ok := r.Context().Value(webConnKey{}).(*webConn)
	if !ok {
		http.Error(rw, errNoConn.Error(), http.StatusInternalServerError) // Serve makes no others
		return
	}
	c.answering(true)
	defer c.answering(false)
	if c.port == nil {
		w.observers.ServeHTTP(rw, r)
		return
	}
	w.mux.ServeHTTP(rw, r)
}

var errNoConn = errors.New("not a connection of this server")

// caller tells who sends a request, as far as the connection, or its Authorization, proves it.
func (w *web) caller(r *http.Request) (broker.Caller, error) {
	c, ok := r.Context().Value(webConnKey{}).(*webConn)
	if !ok || c.port == nil {
		return broker.Caller{}, errNoConn
	}
	nc, _ := c.Conn.(*portmux.Conn)
	caller, err := w.node.nativeCaller(c.port, r.RemoteAddr, nc)
	if err != nil {
		return broker.Caller{}, err
	}
	return w.node.logins.authenticate(r.Context(), caller, r.Header.Get("Authorization"))
}

// refuse tells that it is not known who sends a request.
func refuse(rw http.ResponseWriter, err error) {
	status := http.StatusForbidden
	switch {
	case errors.Is(err, auth.ErrNoCredentials), errors.Is(err, auth.ErrAuthentication):
		rw.Header().Set("WWW-Authenticate", auth.BasicChallenge)
		status = http.StatusUnauthorized
	case errors.Is(err, replication.ErrOverloaded), errors.Is(err, errStarting):
		rw.Header().Set("Retry-After", "1")
		status = http.StatusServiceUnavailable
	}
	http.Error(rw, err.Error(), status)
}

// describers lets through who may describe the cluster.
func (w *web) describers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		authorizer := w.authorizer.Load()
		if authorizer == nil {
			refuse(rw, errStarting)
			return
		}
		caller, err := w.prove(r)
		switch {
		case err != nil:
			refuse(rw, err)
		case !(*authorizer).Allowed(caller, broker.Describe, broker.Cluster):
			http.Error(rw, broker.ErrClusterDenied.Error()+": Describe is needed", http.StatusForbidden)
		default:
			next.ServeHTTP(rw, r)
		}
	})
}

// safe tells browsers to take nothing for what it is not, and no page to frame these.
func safe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Content-Security-Policy", "default-src 'none'")
		next.ServeHTTP(w, r)
	})
}

// serve answers until the listener is closed.
func (w *web) serve(l net.Listener) {
	err := w.server.Serve(l)
	if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		w.node.logger.Error("an HTTP listener failed", "listen", l.Addr().String(), "error", err)
	}
}

// stop gives requests under way a moment to end, and ends the rest.
func (w *web) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, webStopTime)
	defer cancel()
	if w.server.Shutdown(ctx) == nil {
		return nil
	}
	return w.server.Close()
}

// route answers a path, and all below it if it ends in a slash. The pattern is one of http.ServeMux.
func (w *web) route(pattern string, h http.Handler) { w.mux.Handle(pattern, h) }

// open begins to answer.
func (w *web) open(context.Context) error {
	a := w.node
	if a.layers.Get(config.Broker, "authorizer") == config.AuthorizerNone {
		w.allow(broker.Everyone{}) // else serve says who, when the rules are known
	}
	figures := metrics.Handler(metrics.Options{
		Gather: w.gather, MaxSeries: w.maxSeries, Version: a.config.Version, Logger: a.levels.Logger("metrics"),
	})
	for _, mux := range []*http.ServeMux{w.mux, w.observers} {
		mux.Handle("GET /version", text(func() string { return a.config.Version }))
		mux.Handle("GET /livez", health(w.alive))
		mux.Handle("GET /readyz", health(w.ready))
		mux.Handle("GET /healthz", health(w.ready))
	}
	w.observers.Handle("GET /metrics", figures)
	w.route("GET /metrics", w.describers(few(webScrapes)(figures)))
	w.route("GET /{$}", http.HandlerFunc(w.about))
	w.route("/v1/", http.HandlerFunc(w.services))
	return w.listen()
}

// listen serves all ports, which share one bound on connections, and the listener of its own for probes, which has another.
func (w *web) listen() (err error) {
	a := w.node
	perIP := int(a.layers.Int("max.connections.per.ip"))
	if a.node.MetricsListen != "" {
		if w.probes, err = net.Listen("tcp", a.node.MetricsListen); err != nil {
			return fmt.Errorf("metrics-listen: %w", err)
		}
		a.logger.Info("figures and probes have a listener of their own", "listen", w.probes.Addr().String())
		own := &webConns{most: webConnections, mostPerIP: perIP}
		a.loops.Go(func() { w.serve(own.listener(w.probes, nil)) })
	}
	conns := &webConns{most: webConnections, mostPerIP: perIP}
	for _, p := range a.ports.all {
		l := p.mux.HTTP()
		a.loops.Go(func() { w.serve(conns.listener(l, p)) })
	}
	return nil
}

// serves says who answers HTTP/JSON.
func (w *web) serves(native http.Handler) {
	native = w.ownNames(native)
	w.native.Store(&native)
}

// services answers HTTP/JSON.
func (w *web) services(rw http.ResponseWriter, r *http.Request) {
	native := w.native.Load()
	if native == nil {
		rw.Header().Set("Retry-After", "1")
		http.Error(rw, errStarting.Error(), http.StatusServiceUnavailable)
		return
	}
	(*native).ServeHTTP(rw, r)
}

// allow says who decides who may see figures.
func (w *web) allow(by broker.Authorizer) { w.authorizer.Store(&by) }

// about says what this port is.
func (w *web) about(rw http.ResponseWriter, _ *http.Request) {
	rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(rw, `Quorlog %s, node %d.

This port serves Kafka clients; point them to %s as bootstrap server. Over HTTP there are:

  /metrics           figures for Prometheus
  /livez             whether the process is well
  /readyz?verbose    whether the node serves, and why not
  /version           the version of the program
`, w.node.config.Version, w.node.node.NodeID, hostPort(w.node.self))
}

func text(say func() string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, say())
	})
}
