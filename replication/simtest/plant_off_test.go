//go:build !quorlog_mutations

package simtest

func (plant) set() {}
