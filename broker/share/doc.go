// Package share serves share groups (KIP-932): many members read the same partition at once, each record goes to one of them at
// a time, and is delivered again until somebody has acknowledged it or it was tried too often.
//
//	Partition      one group's progress in one partition: acquire, acknowledge, expire     partition.go, acquire.go, acknowledge.go
//	  Run          offsets that share a fate                                               runs.go
//	Durable        what survives of it                                                     durable.go
//
// The leader of a topic's partition keeps the share-partitions of it in memory. Their durable state is in __share_group_state,
// under a coordinator; package keeper is about that.
package share
