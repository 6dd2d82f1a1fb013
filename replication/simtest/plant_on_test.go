//go:build quorlog_mutations

package simtest

import "github.com/quorlog/quorlog/internal/mutation"

func (p plant) set() { mutation.Plant(p.code) }
