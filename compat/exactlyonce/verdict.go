package exactlyonce

import (
	"fmt"
	"maps"
	"slices"
)

// tally counts how often each id was seen.
type tally map[int]int

// wrong tells which of the ids 0..n-1 were not seen exactly once, and which others were seen.
func (t tally) wrong(n int) (faults []string) {
	for id := range n {
		if t[id] != 1 {
			faults = append(faults, fmt.Sprintf("id %d was seen %d times", id, t[id]))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(t)) {
		if id < 0 || id >= n {
			faults = append(faults, fmt.Sprintf("id %d was never sent", id))
		}
	}
	return faults
}

// few is a list that can be read.
func few(faults []string) []string {
	const most = 20
	if len(faults) > most {
		return append(slices.Clone(faults[:most]), fmt.Sprintf("and %d more", len(faults)-most))
	}
	return faults
}

// books are the bank's accounts as a reader of committed records has them.
type books struct {
	balance map[int]int // by account
	halves  map[string]int
}

func newBooks(accounts, each int) *books {
	b := &books{balance: map[int]int{}, halves: map[string]int{}}
	for a := range accounts {
		b.balance[a] = each
	}
	return b
}

// enter takes one half of a transfer: an account and what it gains or, below zero, loses.
func (b *books) enter(transfer string, account, amount int) {
	b.balance[account] += amount
	b.halves[transfer]++
}

// wrong tells what can't be: money that came or went, a transfer of which only a part is there or that is there twice, one
// that was aborted, and one that was committed and is missing.
func (b *books) wrong(sum int, committed, aborted []string) (faults []string) {
	total := 0
	for _, amount := range b.balance {
		total += amount
	}
	if total != sum {
		faults = append(faults, fmt.Sprintf("the accounts hold %d, not %d", total, sum))
	}
	for _, transfer := range slices.Sorted(maps.Keys(b.halves)) {
		if n := b.halves[transfer]; n != 2 {
			faults = append(faults, fmt.Sprintf("transfer %s has %d halves", transfer, n))
		}
	}
	for _, transfer := range committed {
		if b.halves[transfer] == 0 {
			faults = append(faults, fmt.Sprintf("transfer %s was committed and is missing", transfer))
		}
	}
	for _, transfer := range aborted {
		if b.halves[transfer] > 0 {
			faults = append(faults, fmt.Sprintf("transfer %s was aborted and is there", transfer))
		}
	}
	return faults
}
