// Package raftgroup runs Raft instances: Group, one replica of a partition, whose log is the partition's own; and MetaGroup,
// the metadata group.
package raftgroup
