package leaders

//quorlog:bubble it is all run in the bubbles of the tests

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// TestTablesConverge lets random nodes win elections, cease, crash, restart, be cut and lose answers; once all is quiet and
// connected, every table must name the last leader of each partition, or nobody if that one has ceased or crashed.
func TestTablesConverge(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) { converge(t, seed) })
	}
}

type truth struct {
	epoch  batch.Epoch
	leader replication.NodeID
}

func converge(t *testing.T, seed uint64) {
	const partitions = 8
	rnd := rand.New(rand.NewPCG(seed, 1))
	nodes := []replication.NodeID{1, 2, 3, 4}
	n := newNetwork(t, nodes...)
	defer func() { n.close() }()
	var is [partitions]truth
	for range 200 {
		id := nodes[rnd.IntN(len(nodes))]
		i := rnd.IntN(partitions)
		switch event := rnd.IntN(20); {
		case event < 8 && n.tables[id] != nil:
			is[i].epoch++
			is[i].leader = id
			n.tables[id].Set(led(int32(i), id, is[i].epoch, id))
		case event < 10 && n.tables[id] != nil && is[i].leader == id:
			is[i].leader = none
			n.tables[id].Set(Entry{ID: part(int32(i)), Leader: replication.Leader{Node: none, Epoch: is[i].epoch}})
		case event < 12 && n.tables[id] != nil:
			n.stop(id)
			for j := range is {
				if is[j].leader == id {
					is[j].leader = none
				}
			}
		case event < 14 && n.tables[id] == nil:
			n.start(id)
		case event < 17:
			if other := nodes[rnd.IntN(len(nodes))]; other != id {
				n.setCut(id, other, rnd.IntN(2) == 0)
			}
		case event < 18:
			n.mu.Lock()
			n.mute[id] = rnd.IntN(3)
			n.mu.Unlock()
		default:
			time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
		}
	}
	for _, a := range nodes {
		if n.tables[a] == nil {
			n.start(a)
		}
		for _, b := range nodes {
			if a != b {
				n.setCut(a, b, false)
			}
		}
	}
	time.Sleep(10 * time.Second)
	synctest.Wait()
	for i, want := range is {
		for id, table := range n.tables {
			l, _, ok := table.Leader(part(int32(i)))
			if want.leader == none && ok && l.Epoch == want.epoch || want.leader != none && (l.Node != want.leader || l.Epoch != want.epoch) {
				t.Errorf("seed %d: node %d says of partition %d: %+v, %v; it is %+v", seed, id, i, l, ok, want)
			}
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}
