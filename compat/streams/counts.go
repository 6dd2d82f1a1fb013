package streams

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// counts are the words of an input and how often each has come so far.
type counts map[string]int

// outputs are the counts that came out for each word, in their order.
type outputs map[string][]string

// wrong tells for which words the output is not 1, 2, 3, ... up to the word's count.
func (o outputs) wrong(want counts) (faults []string) {
	for _, word := range slices.Sorted(maps.Keys(want)) {
		for i, text := range o[word] {
			if text != strconv.Itoa(i+1) {
				faults = append(faults, fmt.Sprintf("%q: output %d is %s", word, i+1, text))
				break
			}
		}
		if got := len(o[word]); got != want[word] {
			faults = append(faults, fmt.Sprintf("%q: %d outputs, counted %d", word, got, want[word]))
		}
	}
	for _, word := range slices.Sorted(maps.Keys(o)) {
		if want[word] == 0 {
			faults = append(faults, fmt.Sprintf("%q was never written", word))
		}
	}
	return faults
}
