// Package metapb is the durable form of the cluster's metadata, generated from meta.proto, and of what
// nodes say to the controller (wire.proto). Only package controller reads and writes it.
package metapb

//go:generate protoc --go_out=. --go_opt=paths=source_relative meta.proto wire.proto
