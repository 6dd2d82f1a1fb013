package exactlyonce

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/compat/rig"
)

const (
	accounts = 10
	deposit  = 1000
	tellers  = 4
)

// TestBank moves money between accounts, each transfer one transaction with two records on two partitions, some of them
// aborted by their tellers and some by what is killed. Whenever no transaction is open, the sum is what it was: for who reads
// everything then, and for who has read all the time what was committed by then.
func TestBank(t *testing.T) { brokers(t, endTxn, testBank) }

func testBank(t *testing.T, b *broker) {
	rng := rig.Chance(t)
	b.createTopic(t, "accounts", 4)
	all := make([]*teller, tellers)
	for i := range all {
		all[i] = &teller{broker: b, id: fmt.Sprintf("teller-%d", i), rng: rand.New(rand.NewPCG(rng.Uint64(), 0))}
		all[i].connect(t)
	}
	var committed, aborted []string
	eye, meanwhile := b.watch(t), 0
	for round := range rig.Count(3, 10, 60) {
		before := eye.halves()
		var work sync.WaitGroup
		for _, one := range all {
			work.Go(func() {
				one.transfer(t.Context(), rig.Count(20, 50, 200), func() bool { return eye.halves() > before })
			})
		}
		if b.cluster != nil {
			b.killOne(t, b.coordinator(t, all[round%tellers].id))
		}
		work.Wait()
		meanwhile += eye.halves() - before
		for _, one := range all {
			if one.broken != nil {
				t.Logf("round %d: %s: %v", round, one.id, one.broken)
			}
			if one.broken != nil || round%2 == 1 { // the successor ends what its predecessor has left open
				one.line.cut()
				one.connect(t)
			}
			committed, aborted = append(committed, one.committed...), append(aborted, one.aborted...)
			one.committed, one.aborted = nil, nil
		}
		ledger := newBooks(accounts, deposit)
		b.readCommitted(t, "accounts", func(r *kgo.Record) {
			ledger.record(t, r)
		})
		for _, fault := range few(ledger.wrong(accounts*deposit, committed, aborted)) {
			t.Errorf("round %d: %s", round, fault)
		}
		for _, fault := range few(eye.wrong(t, rig.SettledEnds(t, kadm.NewClient(b.client(t, nil)), "accounts"), committed, aborted)) {
			t.Errorf("round %d: read meanwhile: %s", round, fault)
		}
	}
	if len(committed) == 0 || len(aborted) == 0 || meanwhile == 0 {
		t.Errorf("%d transfers committed, %d aborted, %d halves read meanwhile: this has shown nothing", len(committed), len(aborted), meanwhile)
	}
	t.Logf("%d transfers committed, %d aborted; %d halves read while others were under way", len(committed), len(aborted), meanwhile)
}

// record enters a half as it is written.
func (b *books) record(t *testing.T, r *kgo.Record) {
	t.Helper()
	transfer, rest, _ := strings.Cut(string(r.Value), " ")
	account, amount, _ := strings.Cut(rest, " ")
	b.enter(transfer, number(t, account), number(t, amount))
}

// witness reads what is committed while transfers are under way. Of a transfer it may see one half long before the other: the halves
// are on two partitions, each of which is shown up to its own last stable offset.
type witness struct {
	mu    sync.Mutex
	books *books
	next  map[int32]int64 // offset, by partition
	twice []string        // offsets that came again
}

// watch starts a witness, which ends with the test.
func (b *broker) watch(t *testing.T) *witness {
	t.Helper()
	w := &witness{books: newBooks(accounts, deposit), next: map[int32]int64{}}
	cl := b.client(t, nil, readerOfCommitted("accounts")...)
	ctx, cancel := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	reading.Go(func() {
		for ctx.Err() == nil {
			cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { w.take(t, r) }) // after an error it goes on
		}
	})
	t.Cleanup(func() { cancel(); reading.Wait() })
	return w
}

func (w *witness) take(t *testing.T, r *kgo.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Offset < w.next[r.Partition] {
		w.twice = append(w.twice, fmt.Sprintf("offset %d of partition %d came after %d", r.Offset, r.Partition, w.next[r.Partition]-1))
	}
	w.next[r.Partition] = max(w.next[r.Partition], r.Offset+1)
	if !r.Attrs.IsControl() {
		w.books.record(t, r)
	}
}

// halves is how many the witness has seen.
func (w *witness) halves() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, of := range w.books.halves {
		n += of
	}
	return n
}

// wrong waits until the witness has seen all up to the ends, where no transaction is open, and tells what can't be.
func (w *witness) wrong(t *testing.T, ends map[int32]int64, committed, aborted []string) []string {
	t.Helper()
	rig.Await(t, func() string {
		w.mu.Lock()
		defer w.mu.Unlock()
		for p, end := range ends {
			if w.next[p] < end {
				return fmt.Sprintf("who reads meanwhile is at %d of partition %d, which ends at %d", w.next[p], p, end)
			}
		}
		return ""
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	return append(slices.Clone(w.twice), w.books.wrong(accounts*deposit, committed, aborted)...)
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Error(err)
	}
	return n
}

// teller is one producer. Its fields are for one goroutine at a time.
type teller struct {
	*broker
	id        string
	rng       *rand.Rand
	cl        *kgo.Client
	line      *cord
	count     int
	broken    error // why the client can do nothing more
	committed []string
	aborted   []string
}

// connect starts a client under the teller's transactional id; with that, whatever was open is aborted.
func (b *teller) connect(t *testing.T) {
	t.Helper()
	b.line, b.broken = &cord{}, nil
	b.cl = b.client(t, b.line, kgo.TransactionalID(b.id), kgo.TransactionTimeout(20*time.Second), kgo.DefaultProduceTopic("accounts"),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	// An id is taken over at the first transaction: an empty one.
	if err := b.cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := b.cl.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.cl.ProducerID(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// transfer makes some transfers, a fifth of which it aborts, and more of them until one was seen, or for a few seconds. What ends with an
// error may have been committed.
func (b *teller) transfer(ctx context.Context, transfers int, seen func() bool) {
	enough := time.Now().Add(10 * time.Second)
	for i := 0; i < transfers || !seen() && time.Now().Before(enough); i++ {
		b.count++
		name, from, to, amount := fmt.Sprintf("%s/%d", b.id, b.count), b.rng.IntN(accounts), b.rng.IntN(accounts), b.rng.IntN(100)
		commit := b.rng.IntN(5) > 0
		if b.broken = b.cl.BeginTransaction(); b.broken != nil {
			return
		}
		sent := b.cl.ProduceSync(ctx, half(name, from, -amount), half(name, to, amount)).FirstErr()
		err := b.cl.EndTransaction(ctx, kgo.TransactionEndTry(commit && sent == nil))
		switch {
		case err != nil:
			b.broken = errors.Join(sent, err)
			return
		case commit && sent == nil:
			b.committed = append(b.committed, name)
		default:
			b.aborted = append(b.aborted, name)
		}
	}
}

func half(transfer string, account, amount int) *kgo.Record {
	key := strconv.Itoa(account)
	return &kgo.Record{Key: []byte(key), Value: []byte(strings.Join([]string{transfer, key, strconv.Itoa(amount)}, " "))}
}
