package exactlyonce

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/compat/rig"
)

const (
	accounts = 10
	deposit  = 1000
	tellers  = 4
)

// TestBank moves money between accounts, each transfer one transaction with two records on two partitions, some of them
// aborted by their tellers and some by what is killed. Whenever no transaction is open, the sum is what it was.
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
	for round := range rig.Count(3, 10, 60) {
		var work sync.WaitGroup
		for _, one := range all {
			work.Go(func() { one.transfer(t.Context(), rig.Count(20, 50, 200)) })
		}
		if b.cluster != nil {
			b.killOne(t, b.coordinator(t, all[round%tellers].id))
		}
		work.Wait()
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
			transfer, rest, _ := strings.Cut(string(r.Value), " ")
			account, amount, _ := strings.Cut(rest, " ")
			ledger.enter(transfer, number(t, account), number(t, amount))
		})
		for _, fault := range few(ledger.wrong(accounts*deposit, committed, aborted)) {
			t.Errorf("round %d: %s", round, fault)
		}
	}
	if len(committed) == 0 || len(aborted) == 0 {
		t.Errorf("%d transfers committed, %d aborted: this has shown nothing", len(committed), len(aborted))
	}
	t.Logf("%d transfers committed, %d aborted", len(committed), len(aborted))
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

// transfer makes some transfers, a fifth of which it aborts. What ends with an error may have been committed.
func (b *teller) transfer(ctx context.Context, transfers int) {
	for range transfers {
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
