package exactlyonce

import (
	"strings"
	"testing"
)

// TestPlantedTallies shows the check what it must find.
func TestPlantedTallies(t *testing.T) {
	for _, c := range []struct {
		seen tally
		want string
	}{
		{tally{0: 1, 1: 1, 2: 1}, ""},
		{tally{0: 1, 1: 2, 2: 1}, "id 1 was seen 2 times"},
		{tally{0: 1, 2: 1}, "id 1 was seen 0 times"},
		{tally{0: 1, 1: 1, 2: 1, 7: 1}, "id 7 was never sent"},
	} {
		if got := strings.Join(c.seen.wrong(3), "; "); got != c.want {
			t.Errorf("%v: %q, want %q", c.seen, got, c.want)
		}
	}
}

// TestPlantedBooks does the same for the bank.
func TestPlantedBooks(t *testing.T) {
	type half struct {
		transfer        string
		account, amount int
	}
	for _, c := range []struct {
		halves []half
		want   string
	}{
		{[]half{{"a", 0, -5}, {"a", 1, 5}}, ""},
		{nil, "transfer a was committed and is missing"},
		{[]half{{"a", 0, -5}}, "the accounts hold 15, not 20; transfer a has 1 halves"},
		{[]half{{"a", 0, -5}, {"a", 1, 5}, {"a", 0, -5}, {"a", 1, 5}}, "transfer a has 4 halves"},
		{[]half{{"a", 0, -5}, {"a", 1, 5}, {"b", 0, -5}, {"b", 1, 5}}, "transfer b was aborted and is there"},
	} {
		b := newBooks(2, 10)
		for _, h := range c.halves {
			b.enter(h.transfer, h.account, h.amount)
		}
		if got := strings.Join(b.wrong(20, []string{"a"}, []string{"b"}), "; "); got != c.want {
			t.Errorf("%v: %q, want %q", c.halves, got, c.want)
		}
	}
}
