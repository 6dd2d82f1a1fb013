package client

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
)

// Scheme is that of a Client's target: quorlog:///host:port,host:port names nodes to begin with. The others are asked for.
const Scheme = "quorlog"

const (
	// refreshEvery is how often the directory is asked for when nothing seems to have changed. It is also how long a Read may wait for a
	// node that has fallen silent.
	refreshEvery = 10 * time.Second
	// refreshPause is the least time between two times, whatever happens; refreshRetry between two that failed.
	refreshPause, refreshRetry = 50 * time.Millisecond, 200 * time.Millisecond
	// refreshTime is how long a node may take to answer: it does so from memory, and others can be asked.
	refreshTime = 3 * time.Second
	// unusedAfter is when a topic is no longer asked for.
	unusedAfter = 10 * time.Minute
	// maxTopics bounds the topics that are asked for, askedBytes their names in one request; the server takes 64 KiB.
	maxTopics, askedBytes = 10_000, 32 << 10
	// topicPatience is how long a topic may be missing: one that was just made is not known everywhere at once.
	topicPatience = 5 * time.Second
	// maxTopicName is how long a topic's name can be, in bytes; it is Kafka's limit and the server's.
	maxTopicName = 249
)

// directory knows who is there and who leads what. It is the resolver of the client's connection, over which it asks.
type directory struct {
	seeds   []string
	rack    string
	cluster quorlogv1.ClusterClient
	ctx     context.Context // ends with the client
	asked   chan struct{}   // somebody wants a refresh
	running sync.WaitGroup
	known   atomic.Pointer[table]

	mu struct {
		sync.Mutex
		topics  map[string]*interest
		loads   map[string]*atomic.Int64 // reads under way, by address
		changed chan struct{}            // closed at the next refresh
		err     error                    // of the last refresh
	}
}

// interest is in a topic.
type interest struct {
	used   time.Time
	create bool
}

func newDirectory(ctx context.Context, seeds []string, rack string) *directory {
	d := &directory{seeds: seeds, rack: rack, ctx: ctx, asked: make(chan struct{}, 1)}
	d.mu.topics, d.mu.loads, d.mu.changed = map[string]*interest{}, map[string]*atomic.Int64{}, make(chan struct{})
	d.known.Store(&table{topics: map[string]*routes{}})
	return d
}

// Scheme implements resolver.Builder.
func (d *directory) Scheme() string { return Scheme }

// OverrideAuthority implements resolver.AuthorityOverrider. Each node is held against its own name; this one stands in headers.
func (d *directory) OverrideAuthority(resolver.Target) string { return d.seeds[0] }

// Build implements resolver.Builder.
func (d *directory) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	ctx, end := context.WithCancel(d.ctx)
	_ = cc.UpdateState(stateOf(d.seeds)) // as in publish
	d.running.Go(func() { d.run(ctx, cc) })
	return &asking{d, end}, nil
}

// asking is the directory as gRPC sees it.
type asking struct {
	*directory
	end context.CancelFunc
}

// ResolveNow implements resolver.Resolver.
func (a *asking) ResolveNow(resolver.ResolveNowOptions) { a.refresh() }

// Close implements resolver.Resolver.
func (a *asking) Close() { a.end() }

// stateOf names the nodes to gRPC. Each is held against the name by which it is reached.
func stateOf(addrs []string) resolver.State {
	var s resolver.State
	for _, addr := range addrs {
		s.Addresses = append(s.Addresses, resolver.Address{Addr: addr, ServerName: hostOf(addr)})
	}
	return s
}

// refresh has the directory ask soon.
func (d *directory) refresh() {
	select {
	case d.asked <- struct{}{}:
	default: // it will
	}
}

// run asks until the connection is closed.
func (d *directory) run(ctx context.Context, cc resolver.ClientConn) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-d.asked:
			// Those that ask at the same time are answered together.
			timer.Reset(refreshPause)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
		t, err := d.ask(ctx)
		next := refreshEvery
		if err == nil {
			d.known.Store(t)
		} else {
			next = refreshRetry
		}
		d.publish(err, cc)
		timer.Reset(next)
	}
}

// publish tells everybody what is known now.
func (d *directory) publish(err error, cc resolver.ClientConn) {
	addrs := d.known.Load().addrs
	if err != nil || len(addrs) == 0 {
		// All nodes may have moved: then those to begin with may know where.
		addrs = slices.Concat(addrs, slices.DeleteFunc(slices.Clone(d.seeds), func(s string) bool { return slices.Contains(addrs, s) }))
	}
	_ = cc.UpdateState(stateOf(addrs)) // the balancer takes any addresses; that one can't be reached shows when it is used
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.err = err
	close(d.mu.changed)
	d.mu.changed = make(chan struct{})
	for addr, load := range d.mu.loads {
		if load.Load() == 0 && !slices.Contains(addrs, addr) {
			delete(d.mu.loads, addr)
		}
	}
}

// ask asks for all topics that are in use.
func (d *directory) ask(ctx context.Context) (*table, error) {
	ctx, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	t := &table{addr: map[int32]string{}, racks: map[string]string{}, topics: map[string]*routes{}}
	requests := d.requests()
	for _, req := range requests {
		got, err := d.cluster.GetServers(ctx, req)
		if err != nil {
			return nil, err
		}
		t.merge(req, got)
	}
	t.addrs = slices.Sorted(maps.Values(t.addr))
	return t, nil
}

// requests name the topics in use, as many in each as may be; those of no more use are forgotten.
func (d *directory) requests() []*quorlogv1.GetServersRequest {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []*quorlogv1.GetServersRequest
	for _, create := range []bool{false, true} {
		size := askedBytes
		for topic, i := range d.mu.topics {
			if r := d.known.Load().topics[topic]; r != nil && r.used.Load() {
				i.used = time.Now()
			}
			if time.Since(i.used) > unusedAfter {
				delete(d.mu.topics, topic)
				continue
			}
			if i.create != create {
				continue
			}
			if size += len(topic) + recordOverhead; size > askedBytes {
				all, size = append(all, &quorlogv1.GetServersRequest{Create: create}), len(topic)
			}
			last := all[len(all)-1]
			last.Topics = append(last.Topics, topic)
			i.create = false // somebody who still waits asks for it again: a topic that was deleted is not to come back by itself
		}
	}
	if len(all) == 0 {
		all = append(all, &quorlogv1.GetServersRequest{ServersOnly: true})
	}
	return all
}

// named tells whether a topic can have a name: the server's rule. Others must not get into requests, which are about topics of others, too:
// one that can't be encoded, or is too large, is answered for none of them.
func named(topic string) bool {
	if topic == "" || topic == "." || topic == ".." || len(topic) > maxTopicName {
		return false
	}
	return !strings.ContainsFunc(topic, func(c rune) bool {
		return ('a' > c || c > 'z') && ('A' > c || c > 'Z') && ('0' > c || c > '9') && c != '.' && c != '_' && c != '-'
	})
}

// watch has a topic asked for, and returns what is closed when the directory was asked the next time.
func (d *directory) watch(topic string, create bool) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !named(topic) {
		return d.mu.changed
	}
	i := d.mu.topics[topic]
	if i == nil {
		if len(d.mu.topics) >= maxTopics {
			for some := range d.mu.topics {
				delete(d.mu.topics, some) // it is asked for again when it is used again
				break
			}
		}
		i = &interest{}
		d.mu.topics[topic] = i
		d.refresh()
	}
	i.used, i.create = time.Now(), i.create || create
	return d.mu.changed
}

// topic waits until it is known how many partitions a topic has. It is made if that is wanted and the cluster does so.
func (d *directory) topic(ctx context.Context, topic string, create bool) (*routes, error) {
	if !named(topic) {
		return nil, errTopicName
	}
	var missing time.Time
	for {
		if r := d.known.Load().topics[topic]; r != nil && r.count > 0 {
			r.used.Store(true)
			return r, nil
		}
		changed := d.watch(topic, create)
		if r := d.known.Load().topics[topic]; r != nil && r.count <= 0 {
			if missing.IsZero() {
				missing = time.Now()
			}
			if time.Since(missing) > topicPatience {
				return nil, errNotFound
			}
			d.refresh()
		}
		select {
		case <-ctx.Done():
			return nil, d.why(ctx.Err())
		case <-d.ctx.Done():
			return nil, ErrClosed
		case <-changed:
		}
		if err := d.why(nil); err != nil && kindOf(err) == hopeless {
			return nil, err
		}
	}
}

// why adds to an error why the directory could not be had last.
func (d *directory) why(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.mu.err == nil:
		return err
	case err == nil:
		return d.mu.err
	}
	return &unreachableError{err, d.mu.err}
}

// unreachableError is the end of somebody's patience, and why that was needed.
type unreachableError struct{ err, cause error }

// Error implements error.
func (e *unreachableError) Error() string { return e.err.Error() + ": " + e.cause.Error() }

// Unwrap returns both errors.
func (e *unreachableError) Unwrap() []error { return []error{e.err, e.cause} }

// GRPCStatus tells the status of the cause.
func (e *unreachableError) GRPCStatus() *status.Status { return status.Convert(e.cause) }

// load is the counter of the reads at an address.
func (d *directory) load(addr string) *atomic.Int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.mu.loads[addr]
	if l == nil {
		l = new(atomic.Int64)
		d.mu.loads[addr] = l
	}
	return l
}
