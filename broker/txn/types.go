package txn

import (
	"cmp"
	"slices"
	"time"
)

// State is where a transactional id stands. The numbers are those of the records in __transaction_state.
type State int8

// The states. Dead and PrepareEpochFence are Kafka's too, but are never written.
const (
	Empty          State = 0 // no transaction since the producer was initialised
	Ongoing        State = 1
	PrepareCommit  State = 2 // decided; the markers are being written
	PrepareAbort   State = 3
	CompleteCommit State = 4 // the markers are written
	CompleteAbort  State = 5
)

var stateNames = [...]string{"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort"}

// String is the name by which Kafka's tools know the state.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return "Unknown"
	}
	return stateNames[s]
}

// ParseState finds a state by its name.
func ParseState(name string) (State, bool) {
	i := slices.Index(stateNames[:], name)
	return State(i), i >= 0
}

// prepared tells that the transaction's end is decided and not yet known everywhere.
func (s State) prepared() bool { return s == PrepareCommit || s == PrepareAbort }

// ProducerID is a producer id; Epoch its epoch. None stands for "no producer id" and "no epoch".
type (
	ProducerID int64
	Epoch      int16
)

// None is no producer id and, as NoEpoch, no epoch.
const (
	None    ProducerID = -1
	NoEpoch Epoch      = -1
)

const (
	maxEpoch Epoch = 1<<15 - 1 // only ever in a marker
	// lastEpoch is the highest epoch that a producer is given, so that there is always one more to fence it with.
	lastEpoch = maxEpoch - 1
)

// exhausted tells that a producer id has no epoch left to give out.
func exhausted(e Epoch) bool { return e >= lastEpoch }

// Version is the protocol that the client speaks (the feature transaction.version, KIP-890).
type Version int8

// The versions that differ here.
const (
	V1 Version = 1 // partitions are added by the client; the epoch stays the same from one transaction to the next
	V2 Version = 2 // partitions are added by the brokers that are written to; each transaction has its own epoch
)

// Partition is a partition with data of a transaction.
type Partition struct {
	Topic string
	Index int32
}

func comparePartitions(a, b Partition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Index, b.Index))
}

// Partitions is a set of partitions, in order. Only its owner changes it, and only by dropping.
type Partitions []Partition

func (p Partitions) has(q Partition) bool {
	_, ok := slices.BinarySearchFunc(p, q, comparePartitions)
	return ok
}

func (p Partitions) hasAll(of []Partition) bool {
	return !slices.ContainsFunc(of, func(q Partition) bool { return !p.has(q) })
}

func (p Partitions) with(more []Partition) Partitions {
	all := append(slices.Clone(p), more...)
	slices.SortFunc(all, comparePartitions)
	return slices.Compact(all)
}

// drop removes a partition in place.
func (p Partitions) drop(q Partition) Partitions {
	if i, ok := slices.BinarySearchFunc(p, q, comparePartitions); ok {
		return slices.Delete(p, i, i+1)
	}
	return p
}

// Metadata is what is stored of a transactional id.
type Metadata struct {
	ProducerID ProducerID
	Epoch      Epoch
	// LastEpoch is the epoch of before the last bump that the producer asked for itself, so that its retry is recognised (KIP-360);
	// NoEpoch after a bump by somebody else. It is in memory only, as in Kafka.
	LastEpoch Epoch
	// PreviousID is the producer id of before the last change. NextID is what replaces the id once the transaction is complete;
	// None but for a transaction that used up the last epoch.
	PreviousID, NextID ProducerID
	Timeout            time.Duration
	State              State
	// Partitions are those of the transaction; in memory, once it is prepared, those whose marker is not written.
	Partitions Partitions
	Started    time.Time // of the transaction; zero if there was none since the producer was initialised
	Updated    time.Time
	Version    Version // of the client that changed it last
}

// blank is a transactional id of which nothing is known.
func blank() Metadata {
	return Metadata{ProducerID: None, Epoch: NoEpoch, LastEpoch: NoEpoch, PreviousID: None, NextID: None}
}

// renewed is the same with a new producer id, whose epochs are all to come.
func (m *Metadata) renewed(fresh ProducerID) Metadata {
	next := *m
	next.PreviousID, next.ProducerID, next.Epoch = m.ProducerID, fresh, 0
	return next
}

// Identity is what a producer is told to use.
type Identity struct {
	ProducerID ProducerID
	Epoch      Epoch
}

var noIdentity = Identity{None, NoEpoch}

// next is the identity of the next transaction.
func (m *Metadata) next() Identity {
	if m.NextID != None {
		return Identity{m.NextID, 0}
	}
	return Identity{m.ProducerID, m.Epoch}
}
