package membership

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/quorlog/quorlog/replication"
)

// Errors.
var (
	// ErrNoKey: gossip without encryption would let anybody in who reaches the port.
	ErrNoKey = errors.New("membership: a cluster key is needed")
	// ErrTooLong: what a node tells about itself does not fit into a gossip message.
	ErrTooLong = errors.New("membership: address, rack and version are too long together")
)

// Status is what the gossip believes of a member.
type Status uint8

// The statuses.
const (
	// Alive members answer.
	Alive Status = iota + 1
	// Failed members do not, as far as the others see.
	Failed
	// Left members were made to be forgotten.
	Left
)

var statusNames = map[Status]string{Alive: "alive", Failed: "failed", Left: "left"}

// String is the status in words.
func (s Status) String() string { return statusNames[s] }

// Member is a node as it describes itself. All of it is a hint.
type Member struct {
	Node      replication.NodeID
	Addr      string // host:port of the peers' and clients' port
	Rack      string
	Version   string
	Cluster   string // its cluster's id; empty while it belongs to none
	Directory [16]byte
	Expect    int  // its --bootstrap-expect
	Fresh     bool // its data directory belongs to no cluster
	Status    Status
	Gossip    string // ip:port of its gossip; set by Members
	boot      int64  // when its process began, in Unix milliseconds by its own clock
}

// Options configure the gossip. Node, Bind, Key and Self are needed.
type Options struct {
	Node      replication.NodeID
	Bind      string // host:port; port 0 picks a free one, an empty host means all interfaces
	Advertise string // host:port that others are told; empty: the address bound to, or this machine's private one
	Key       []byte // the cluster key
	Self      Member
	Join      []string // host:port of the gossip of other nodes; names may have any number of addresses
	Logger    *slog.Logger
	Now       func() time.Time
	// OnStranger tells of a node of another cluster that was refused. It is called on one goroutine, seldom for the same node, and
	// may wait.
	OnStranger func(Member)
	// Lookup resolves a host name; nil: the system's resolver.
	Lookup Lookup
	// JoinPause is the first pause after a failed attempt to join, and CheckPause the one between looks at whether all is
	// joined; zero values mean the defaults.
	JoinPause, CheckPause time.Duration
	tune                  func(*memberlist.Config) // nil, or a test's haste
}

// Gossip is this node's part of it. It may be used by any number of goroutines.
type Gossip struct {
	o      Options
	logger *slog.Logger
	serf   atomic.Pointer[serf.Serf] // nil while it is made: the delegate is called before Create returns
	boot   int64

	setting sync.Mutex // held while Serf's tags are set
	mu      struct {
		sync.Mutex
		self     Member
		moved    map[replication.NodeID]moved // came back elsewhere before memberlist believes it
		watchers map[int]func()
		next     int // of watchers
	}

	events  chan serf.Event
	changed chan struct{} // capacity 1
	reports chan report
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	once    sync.Once
	tasks   sync.WaitGroup
}

// moved is a member that came back under another address.
type moved struct {
	Member
	until time.Time // believed no longer without its being accepted
}

const (
	// movedFor is how long such a member is believed: detecting the failure of its former life takes about ten seconds, the
	// next full exchange at most as long again.
	movedFor = time.Minute
	// reclaimAfter is how long a member must have been dead until its id may come from another address.
	reclaimAfter = time.Second
	// fullExchange is how often two members exchange all they know. More often than Serf's 30 s: clusters are small here.
	fullExchange = 10 * time.Second
	// streamTimeout bounds a TCP exchange, so that an address that swallows packets holds up joining only a little.
	streamTimeout = 3 * time.Second
	// broadcastTimeout bounds how long a change of this node's description waits for its first spreading.
	broadcastTimeout = 2 * time.Second
	// reconnectEvery is how often a failed member is tried.
	reconnectEvery = 5 * time.Second
	// queuedEvents is how many events Serf may be ahead of drain.
	queuedEvents = 256
	// queuedReports is how many conflicts and strangers may wait; more are dropped, they come again.
	queuedReports = 16
)

// Open starts the gossip. It returns once the port is bound; joining goes on in the background for ever. ctx bounds
// the resolving of this node's own names.
func Open(ctx context.Context, o Options) (*Gossip, error) {
	if len(o.Key) == 0 {
		return nil, ErrNoKey
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Lookup == nil {
		o.Lookup = net.DefaultResolver.LookupIPAddr
	}
	g := &Gossip{
		o: o, logger: o.Logger.With("part", "gossip"), boot: o.Now().UnixMilli(),
		events: make(chan serf.Event, queuedEvents), changed: make(chan struct{}, 1), reports: make(chan report, queuedReports),
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.mu.moved, g.mu.watchers = map[replication.NodeID]moved{}, map[int]func(){}
	g.mu.self = g.described(o.Self)
	config, err := g.config(ctx)
	if err != nil {
		return nil, err
	}
	s, err := serf.Create(config)
	if err != nil {
		return nil, fmt.Errorf("membership: gossip on %s: %w", o.Bind, err)
	}
	g.serf.Store(s)
	for _, task := range []func(){g.drain, g.notify, g.join} {
		g.tasks.Go(task)
	}
	g.logger.Info("gossip", "address", g.Addr(), "join", o.Join)
	return g, nil
}

// described is what this node says of itself: what never changes comes from the options.
func (g *Gossip) described(m Member) Member {
	m.Node, m.Status, m.boot = g.o.Node, Alive, g.boot
	return m
}

func (g *Gossip) config(ctx context.Context) (*serf.Config, error) {
	list := memberlist.DefaultLANConfig()
	var err error
	if list.BindAddr, list.BindPort, err = g.bound(ctx); err != nil {
		return nil, err
	}
	list.AdvertisePort = list.BindPort
	if g.o.Advertise != "" {
		if list.AdvertiseAddr, list.AdvertisePort, err = g.advertised(ctx); err != nil {
			return nil, err
		}
	}
	if list.SecretKey, err = gossipKey(g.o.Key); err != nil {
		return nil, err
	}
	list.DeadNodeReclaimTime, list.PushPullInterval, list.TCPTimeout = reclaimAfter, fullExchange, streamTimeout
	if g.o.tune != nil {
		g.o.tune(list)
	}
	logs := &logWriter{logger: g.logger, now: g.o.Now, ended: g.ctx.Done()}
	list.LogOutput = logs
	config := serf.DefaultConfig()
	config.NodeName = strconv.Itoa(int(g.o.Node))
	config.MemberlistConfig, config.LogOutput = list, logs
	config.EventCh, config.Merge = g.events, merger{g}
	config.EnableNameConflictResolution, config.DisableCoordinates = false, true
	config.BroadcastTimeout, config.ReconnectInterval = broadcastTimeout, reconnectEvery
	config.Tags, err = g.mu.self.tags()
	return config, err
}

// gossipKey derives the gossip's key. The cluster key itself proves peers to each other and encrypts nothing.
func gossipKey(key []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, key, nil, "quorlog gossip v1", 32)
}

// Addr is the ip:port that others are told.
func (g *Gossip) Addr() string { return gossipAddr(g.serf.Load().LocalMember()) }

// Members lists all that are known, this node too, by id.
func (g *Gossip) Members() []Member {
	byNode := map[replication.NodeID]Member{}
	for _, m := range g.serf.Load().Members() {
		if of, ok := memberOf(m); ok {
			byNode[of.Node] = of
		}
	}
	now := g.o.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, m := range g.mu.moved {
		if now.After(m.until) || byNode[id].boot >= m.boot {
			delete(g.mu.moved, id)
			continue
		}
		byNode[id] = m.Member
	}
	self := g.mu.self
	self.Gossip = byNode[self.Node].Gossip
	byNode[self.Node] = self
	return slices.SortedFunc(maps.Values(byNode), func(a, b Member) int { return int(a.Node) - int(b.Node) })
}

// Find gives what is known of a node.
func (g *Gossip) Find(node replication.NodeID) (Member, bool) {
	members := g.Members()
	i := slices.IndexFunc(members, func(m Member) bool { return m.Node == node })
	if i < 0 {
		return Member{}, false
	}
	return members[i], true
}

// Watch calls fn after members have changed, once for any number of changes, until cancel. The calls come on one goroutine,
// one after another; an event of the gossip never waits for them.
func (g *Gossip) Watch(fn func()) (cancel func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	id := g.mu.next
	g.mu.next++
	g.mu.watchers[id] = fn
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.mu.watchers, id)
	}
}

// SetSelf changes what this node tells about itself and waits a little for it to spread. Node and Status are the gossip's own.
func (g *Gossip) SetSelf(m Member) error {
	g.setting.Lock()
	defer g.setting.Unlock()
	m = g.described(m)
	tags, err := m.tags()
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.mu.self = m
	g.mu.Unlock()
	if err := g.serf.Load().SetTags(tags); err != nil {
		// Its size was checked: it is set, and only slow in spreading.
		g.logger.Debug("the node's new description spreads slowly", "error", err)
	}
	g.wake()
	return nil
}

// Self is what this node tells about itself.
func (g *Gossip) Self() Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.self
}

// Close ends the gossip without leaving: the others see this node as failed until it comes back.
func (g *Gossip) Close() error {
	var err error
	g.once.Do(func() {
		g.cancel()
		err = g.serf.Load().Shutdown()
		g.tasks.Wait()
	})
	return err
}
