package partition

import (
	"context"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

type Manager struct{}

func NewManager(o Options) (*Manager, error) { return &Manager{}, nil }
func (m *Manager) Create(ctx context.Context, id replication.PartitionID, topic string, a replication.Assignment, cfg replication.TopicConfig) (*Partition, error) {
	return nil, replication.ErrStorage
}
func (m *Manager) Ensure(ctx context.Context, id replication.PartitionID, topic string, a replication.Assignment, cfg replication.TopicConfig) (*Partition, error) {
	return nil, replication.ErrStorage
}
func (m *Manager) Get(id replication.PartitionID) (*Partition, bool)                 { return nil, false }
func (m *Manager) Delete(ctx context.Context, id replication.PartitionID) error      { return nil }
func (m *Manager) SetConfig(id replication.PartitionID, cfg replication.TopicConfig) {}
func (m *Manager) All() []*Partition                                                 { return nil }
func (m *Manager) Maintain(ctx context.Context)                                      {}
func (m *Manager) Close(ctx context.Context) error                                   { return nil }

type Partition struct{}

func (p *Partition) ID() replication.PartitionID                  { return replication.PartitionID{} }
func (p *Partition) Topic() string                                { return "" }
func (p *Partition) Config() replication.TopicConfig              { return replication.TopicConfig{} }
func (p *Partition) Leader() replication.Leader                   { return replication.Leader{Node: replication.NoNode} }
func (p *Partition) ISR() []replication.NodeID                    { return nil }
func (p *Partition) Assignment() replication.Assignment           { return replication.Assignment{} }
func (p *Partition) Append(b Batch) *Pending                      { return nil }
func (p *Partition) Read(r ReadRequest) (ReadResult, error)       { return ReadResult{}, nil }
func (p *Partition) Offsets(current batch.Epoch) (Offsets, error) { return Offsets{}, nil }
func (p *Partition) OffsetForTimestamp(ts int64, below batch.Offset, current batch.Epoch) (Found, error) {
	return Found{}, nil
}
func (p *Partition) MaxTimestamp(below batch.Offset, current batch.Epoch) (Found, error) {
	return Found{}, nil
}
func (p *Partition) EndOffsetForEpoch(e, current batch.Epoch) (EpochEnd, error) {
	return EpochEnd{}, nil
}
func (p *Partition) EpochOf(o batch.Offset) batch.Epoch      { return batch.NoEpoch }
func (p *Partition) Watch(w chan<- struct{}) (cancel func()) { return func() {} }
func (p *Partition) DeleteRecords(ctx context.Context, before batch.Offset) (batch.Offset, error) {
	return 0, nil
}
func (p *Partition) Size() int64                { return 0 }
func (p *Partition) Producers() []ProducerState { return nil }

type Pending struct{}

func (pd *Pending) Wait(ctx context.Context) (Appended, error) { return Appended{}, nil }
func (pd *Pending) Done() <-chan struct{}                      { return nil }
