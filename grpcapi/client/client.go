package client

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Options configure a Client. The zero value is for a cluster without TLS and passwords.
type Options struct {
	// TLS is used for all nodes; each must have a certificate for the host by which it is reached. A certificate of the
	// client's own belongs in here too. nil: no TLS.
	TLS *tls.Config
	// Username and Password are shown with each call, which needs TLS.
	Username, Password string
	// Rack is where the client is: it reads from replicas with the same rack, if there are some.
	Rack string
	// Partitioner chooses the partition of a record out of count; nil: records with a key go where Kafka's default partitioner sends
	// them (murmur2), the others to any. [Manual] leaves the choice to the sender. It is called by one goroutine at a time and must be quick.
	Partitioner func(r *Record, count int32) int32
	// BatchBytes bounds a batch of records, unless a single one is larger; 0 is 900 KiB. More than the topic's
	// max.message.bytes makes batches fail.
	BatchBytes int
	// Buffer bounds the records that were sent and are not acknowledged, in bytes, about 300 for each record included; 0 is 64 MiB.
	Buffer int
	// DeliveryTimeout is how long a record may take from Send to its acknowledgement; 0 is two minutes.
	DeliveryTimeout time.Duration
	// Dial are more options of the connection: interceptors, statistics.
	Dial []grpc.DialOption
}

// Manual is a Partitioner: the records say themselves where they belong.
func Manual(r *Record, _ int32) int32 { return r.Partition }

const (
	// defaultBatch fits into the max.message.bytes that topics have by default. The larger batches are, the less each record costs nodes.
	defaultBatch, defaultBuffer = 900 << 10, 64 << 20
	defaultDelivery             = 2 * time.Minute
	// maxAnswer bounds an answer of the server, in bytes: it sends a record whole, however large.
	maxAnswer = 128 << 20
	// pingAfter and pingWait find nodes that are gone without a word; servers take no more pings than one in ten seconds.
	pingAfter, pingWait = 15 * time.Second, 5 * time.Second
	// connectTime is for a connection; leastRetry and mostRetry lie between two tries.
	connectTime, leastRetry, mostRetry = 3 * time.Second, 50 * time.Millisecond, 2 * time.Second
	// The flow control windows bound what arrives before it is read, in bytes.
	streamWindow, connectionWindow = 1 << 20, 4 << 20
)

// Client writes and reads records. It is for any number of goroutines, and connects to each node once.
type Client struct {
	o        Options
	conn     *grpc.ClientConn
	records  quorlogv1.RecordsClient
	dir      *directory
	producer *producer
	end      context.CancelFunc
}

// New makes a client of the cluster to which the nodes of target belong: quorlog:///host:port,host:port. It does not wait until one of
// them is reached. The error is about the target or the options.
func New(target string, o Options) (*Client, error) {
	seeds, err := seedsOf(target)
	if err != nil {
		return nil, err
	}
	if o.Username != "" && o.TLS == nil {
		return nil, ErrPlaintext
	}
	o.fill()
	ctx, end := context.WithCancel(context.Background())
	c := &Client{o: o, end: end, dir: newDirectory(ctx, seeds, o.Rack)}
	if c.conn, err = grpc.NewClient(Scheme+":///"+strings.Join(seeds, ","), c.dialing()...); err != nil {
		end()
		return nil, err
	}
	c.dir.cluster, c.records = quorlogv1.NewClusterClient(c.conn), quorlogv1.NewRecordsClient(c.conn)
	c.producer = newProducer(ctx, c.o, c.dir, c.records)
	c.conn.Connect()
	return c, nil
}

// fill puts the defaults where nothing was chosen.
func (o *Options) fill() {
	if o.BatchBytes <= 0 {
		o.BatchBytes = defaultBatch
	}
	if o.Buffer <= 0 {
		o.Buffer = defaultBuffer
	}
	if o.DeliveryTimeout <= 0 {
		o.DeliveryTimeout = defaultDelivery
	}
	o.BatchBytes = min(o.BatchBytes, maxBatch)
}

// seedsOf are the nodes that a target names.
func seedsOf(target string) ([]string, error) {
	list, ok := strings.CutPrefix(target, Scheme+":///")
	if !ok {
		return nil, fmt.Errorf("%q: want %s:///host:port,host:port", target, Scheme)
	}
	seeds := strings.Split(list, ",")
	for _, seed := range seeds {
		if host, port, err := net.SplitHostPort(seed); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("%q in %q: want host:port", seed, target)
		}
	}
	return seeds, nil
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr // it will not be reached either
	}
	return host
}

// dialing are the options of the connection.
func (c *Client) dialing() []grpc.DialOption {
	transport := insecure.NewCredentials()
	if c.o.TLS != nil {
		transport = credentials.NewTLS(c.o.TLS)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(transport), grpc.WithResolvers(c.dir),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"` + policy + `":{}}]}`), grpc.WithDisableServiceConfig(),
		grpc.WithChainUnaryInterceptor(c.dir.unary), grpc.WithChainStreamInterceptor(c.dir.stream),
		grpc.WithDisableRetry(), // what may be sent again is known here
		grpc.WithIdleTimeout(0), // the directory is never idle
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(connectionWindow),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingWait}),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: connectTime, Backoff: backoff.Config{
			BaseDelay: leastRetry, Multiplier: 2, Jitter: 0.2, MaxDelay: mostRetry,
		}}),
	}
	if c.o.Username != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(basic(c.o.Username+":"+c.o.Password)))
	}
	return append(opts, c.o.Dial...)
}

// basic is a username and a password, as HTTP's Basic has them (RFC 7617).
type basic string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b basic) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(b))}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (b basic) RequireTransportSecurity() bool { return true }

// ErrPlaintext: a password without TLS would be anybody's.
var ErrPlaintext = errors.New("a password needs TLS")

// Conn is the client's connection, for the generated clients of quorlog.v1. Calls that name a partition go to a node that has it; see [For].
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// Send hands over a record, and returns before it is stored. It waits until the topic's partitions are known and there is room in the
// buffer, or the context ends. Unless it returns an error, done is called once: with nil when a majority of the replicas has the record on
// disk. Records of one partition are stored in the order of Send, and their dones are called in it; a done must neither wait nor call
// Send. The record is the client's until then.
//
// The error of done wraps [ErrUnknownOutcome] if the record may be stored all the same; of others it is certain that they are not.
func (c *Client) Send(ctx context.Context, r *Record, done func(*Record, error)) error {
	return c.producer.send(ctx, r, done)
}

// Produce stores records and waits for them; see [Client.Send]. It returns the first error; records after it may be stored. If the
// context ends first, what is under way goes on.
func (c *Client) Produce(ctx context.Context, records ...*Record) error {
	results := make(chan error, len(records))
	for i, r := range records {
		if err := c.Send(ctx, r, func(_ *Record, err error) { results <- err }); err != nil {
			return errors.Join(err, gather(ctx, results, i))
		}
	}
	return gather(ctx, results, len(records))
}

// gather waits for n results.
func gather(ctx context.Context, results <-chan error, n int) (first error) {
	for range n {
		select {
		case err := <-results:
			if first == nil {
				first = err
			}
		case <-ctx.Done():
			return errors.Join(first, fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err()))
		}
	}
	return first
}

// Flush waits until the dones of all records that were sent before have been called, or the context ends. Records that are sent
// meanwhile are waited for as well.
func (c *Client) Flush(ctx context.Context) error { return c.producer.flush(ctx) }

// Close ends the client at once. What was sent and is not stored yet fails with [ErrClosed]: Flush first. A done must not call it.
func (c *Client) Close() {
	c.producer.shut()
	c.end()
	_ = c.conn.Close() // it is closed once
	c.producer.await()
	c.dir.running.Wait()
}
