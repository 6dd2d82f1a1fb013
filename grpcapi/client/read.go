package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"sync"
	"time"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxReads bounds the partitions that are read from one node at a time: a connection has a hundred streams, some of which are for others.
const maxReads = 80

// ErrTooManyReads: a client reads more partitions than it can from the nodes that there are, or are left. Another Client can read the others.
var ErrTooManyReads = fmt.Errorf("more than %d partitions would be read from one node", maxReads)

// Start is where a Read begins; the zero value is [Earliest].
type Start struct {
	fill func(*quorlogv1.ConsumeRequest)
	// known: it is an offset, which nobody needs to look for.
	known bool
}

// Earliest begins with the oldest record that is kept.
func Earliest() Start { return Start{} }

// Latest begins with the next record that is stored.
func Latest() Start {
	return Start{fill: func(r *quorlogv1.ConsumeRequest) {
		r.Start = &quorlogv1.ConsumeRequest_Edge{Edge: quorlogv1.Edge_EDGE_LATEST}
	}}
}

// At begins with an offset.
func At(offset int64) Start {
	return Start{known: true, fill: func(r *quorlogv1.ConsumeRequest) { r.Start = &quorlogv1.ConsumeRequest_Offset{Offset: offset} }}
}

// Since begins with the first record whose timestamp is not before t, or with the next one if there is none.
func Since(t time.Time) Start {
	return Start{fill: func(r *quorlogv1.ConsumeRequest) {
		r.Start = &quorlogv1.ConsumeRequest_TimestampMs{TimestampMs: t.UnixMilli()}
	}}
}

// ReadOptions say what to read.
type ReadOptions struct {
	Topic string
	// Partitions are those to read; none: all that the topic has, and those that are added while the Read goes on.
	Partitions []int32
	// Start is for the partitions that are known when the Read begins. One of which the client learns later, up to ten seconds after it
	// was added as a rule, is read from its oldest record whatever Start says: what was stored meanwhile is not to be missed, as
	// it is by consumers of Kafka that begin with the latest record (auto.offset.reset).
	Start Start
	// Offsets are where to begin in some of the partitions, instead of Start or the oldest record.
	Offsets map[int32]int64
	// Uncommitted has records of transactions read that are open or were aborted.
	Uncommitted bool
}

// Read reads records as they come, until the loop over it is left, the context ends, or something can't be mended. Then the last pair
// has the error and no record: the context's, an [OutOfRangeError], [ErrTooManyReads], or the server's. When a node fails, it goes on at
// another replica with the next record. Records of a partition come in their order.
//
//	for r, err := range c.Read(ctx, client.ReadOptions{Topic: "events"}) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(r.Offset, string(r.Value))
//	}
func (c *Client) Read(ctx context.Context, o ReadOptions) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.dir.ctx, cancel)()
		o := o
		o.Offsets = maps.Clone(o.Offsets) // the loop may change its own
		readers, err := c.readers(ctx, o)
		// A loop that is left gets nothing more: yield must not be called again, although the context may have ended, or the client be
		// closed, in the meantime, by the loop itself too, and that is what the readers say then.
		left := false
		give := func(a answer) error {
			err := a.give(yield)
			left = left || errors.Is(err, errLeft)
			return err
		}
		switch {
		case err != nil:
		case len(o.Partitions) == 1:
			err = readers[0].run(ctx, give)
		default:
			err = c.together(ctx, o, readers, give)
		}
		switch {
		case left:
		case c.dir.ctx.Err() != nil:
			yield(nil, ErrClosed)
		default:
			yield(nil, err)
		}
	}
}

// errLeft: the loop was left.
var errLeft = errors.New("the loop was left")

// answer is what a partition has sent at once.
type answer struct {
	key partitionKey
	got *quorlogv1.ConsumeResponse
}

func (a answer) give(yield func(*Record, error) bool) error {
	for _, r := range a.got.GetRecords() {
		if !yield(recordOf(a.key.topic, a.key.partition, r), nil) {
			return errLeft
		}
	}
	return nil
}

// readers are those for all partitions.
func (c *Client) readers(ctx context.Context, o ReadOptions) ([]*reader, error) {
	topic, err := c.dir.topic(ctx, o.Topic, false)
	if err != nil {
		return nil, err
	}
	if len(o.Partitions) == 0 {
		return c.more(o, 0, topic.count)
	}
	readers := make([]*reader, 0, len(o.Partitions))
	for _, p := range o.Partitions {
		if p < 0 || p >= topic.count {
			return nil, fmt.Errorf("%w: %d of %d", ErrPartition, p, topic.count)
		}
		readers = append(readers, c.reader(o, p, o.Start))
	}
	return readers, nil
}

// more are the readers of a Read of all partitions for those that it does not have yet, from one on. Those that were there when it
// began come together.
func (c *Client) more(o ReadOptions, from, count int32) (readers []*reader, err error) {
	if int(count) > maxReads*max(1, len(c.dir.known.Load().addrs)) {
		return nil, ErrTooManyReads
	}
	for p := from; p < count; p++ {
		start := o.Start
		if from > 0 {
			start = Earliest()
		}
		r := c.reader(o, p, start)
		r.added = from > 0
		readers = append(readers, r)
	}
	return readers, nil
}

func (c *Client) reader(o ReadOptions, partition int32, start Start) *reader {
	if offset, ok := o.Offsets[partition]; ok {
		start = At(offset)
	}
	r := &reader{dir: c.dir, records: c.records, key: partitionKey{o.Topic, partition}, start: start}
	r.request = quorlogv1.ConsumeRequest{Topic: o.Topic, Partition: partition}
	if o.Uncommitted {
		r.request.Isolation = quorlogv1.Isolation_ISOLATION_READ_UNCOMMITTED
	}
	return r
}

// together runs several readers, each in a goroutine, and hands on what they get, one answer at a time. If all partitions are read, those
// that the directory learns of get readers as well. It returns the first error.
func (c *Client) together(ctx context.Context, o ReadOptions, readers []*reader, give func(answer) error) error {
	ctx, cancel := context.WithCancel(ctx)
	answers, failed := make(chan answer), make(chan error)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	count := int32(0) // of readers
	var changed <-chan struct{}
	for {
		for _, r := range readers {
			running.Go(func() { r.runTo(ctx, answers, failed) })
		}
		count, readers = count+int32(len(readers)), nil
		if changed == nil && len(o.Partitions) == 0 {
			changed = c.dir.watch(o.Topic, false) // before what is known is looked at, or a change between the two would be missed
			if t := c.dir.known.Load().topics[o.Topic]; t != nil && t.count > count {
				var err error
				if readers, err = c.more(o, count, t.count); err != nil {
					return err
				}
				continue
			}
		}
		select {
		case a := <-answers:
			if err := give(a); err != nil {
				return err
			}
		case err := <-failed:
			return err
		case <-changed:
			changed = nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reader reads a partition.
type reader struct {
	dir     *directory
	records quorlogv1.RecordsClient
	key     partitionKey
	start   Start
	request quorlogv1.ConsumeRequest

	added    bool // the partition was added while the Read went on
	located  bool // request has the offset of the next record
	began    bool // something was read
	failures int  // in a row
	misses   int
}

// run hands on what the partition has until there is an error: the context's, give's, or one that can't be mended.
func (r *reader) run(ctx context.Context, give func(answer) error) error {
	avoid := ""
	for {
		var err error
		avoid, err = r.once(ctx, avoid, give)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err = r.mend(err); err != nil {
			return err
		}
		r.failures++
		r.dir.refresh()
		select {
		case <-time.After(pause(r.failures)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// runTo is run for one of several readers.
func (r *reader) runTo(ctx context.Context, answers chan<- answer, failed chan<- error) {
	err := r.run(ctx, func(a answer) error {
		select {
		case answers <- a:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	select {
	case failed <- err:
	case <-ctx.Done(): // nobody waits for it
	}
}

// mend returns nil if it is worth trying again, else what to say.
func (r *reader) mend(err error) error {
	switch {
	case status.Code(err) == codes.OutOfRange:
		// The oldest record may have gone between looking for it and reading.
		if r.located = r.start.known || r.began; !r.located && r.failures < maxMisses {
			return nil
		}
		edges := detail[*quorlogv1.OffsetRange](err)
		if edges == nil {
			return &OutOfRangeError{First: -1, End: -1, Err: err}
		}
		return &OutOfRangeError{First: edges.GetLogStartOffset(), End: edges.GetEndOffset(), Err: err}
	case errors.Is(err, errLeft), errors.Is(err, ErrTooManyReads):
		return err
	}
	switch kindOf(err) {
	case refused, unsure:
		return nil
	case missing:
		// Not all nodes hear of a new partition at once, and the Read is not to end by it. Of a topic that was deleted the readers of the
		// other partitions tell.
		if r.misses++; r.misses < maxMisses || r.added && !r.began {
			return nil
		}
	}
	return err
}

// once reads from one replica until that ends. It returns where that was.
func (r *reader) once(ctx context.Context, avoid string, give func(answer) error) (addr string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := r.locate(ctx); err != nil {
		return avoid, err
	}
	w := r.dir.toReplica(r.key, avoid)
	stream, err := r.records.ConsumeStream(w.on(ctx), &r.request)
	if w.full.Load() {
		return avoid, ErrTooManyReads
	}
	if err != nil {
		return w.at(), err
	}
	go r.dir.leave(ctx, r.key, w.at(), cancel)
	for {
		got, err := stream.Recv()
		if err != nil {
			return w.at(), err
		}
		r.failures, r.misses, r.began = 0, 0, true
		r.request.Start = &quorlogv1.ConsumeRequest_Offset{Offset: got.GetNextOffset()}
		if err := give(answer{r.key, got}); err != nil {
			return w.at(), err
		}
	}
}

// locate finds the offset to begin with, so that a stream that breaks before its first record goes on where it began.
func (r *reader) locate(ctx context.Context) error {
	if r.located {
		return nil
	}
	if r.start.fill != nil {
		r.start.fill(&r.request)
	}
	if r.start.known {
		r.located = true
		return nil
	}
	r.request.MaxRecords, r.request.MaxBytes = 1, 1
	got, err := r.records.Consume(r.dir.toLeader(r.key).on(ctx), &r.request)
	r.request.MaxRecords, r.request.MaxBytes = 0, 0
	if err != nil {
		return err
	}
	offset := got.GetNextOffset()
	if records := got.GetRecords(); len(records) > 0 {
		offset = records[0].GetOffset()
	}
	r.request.Start, r.located = &quorlogv1.ConsumeRequest_Offset{Offset: offset}, true
	return nil
}

// leave waits until the node at an address is no longer one to read a partition from, and ends the stream from there then: a follower that
// has lost its leader answers all the same, and has nothing new.
func (d *directory) leave(ctx context.Context, key partitionKey, addr string, end func()) {
	served := false
	for {
		changed := d.watch(key.topic, false)
		switch t := d.known.Load(); {
		case t.serves(key, addr):
			served = true
		case served && len(t.replicas(key)) > 0:
			end()
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
