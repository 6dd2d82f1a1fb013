package streams

import (
	"strings"
	"testing"
)

// TestPlanted shows the check what it must find.
func TestPlanted(t *testing.T) {
	for _, c := range []struct {
		got  outputs
		want string
	}{
		{outputs{"a": {"1", "2"}, "b": {"1"}}, ""},
		{outputs{"a": {"1", "2"}}, `"b": 0 outputs, counted 1`},
		{outputs{"a": {"1", "1", "2"}, "b": {"1"}}, `"a": output 2 is 1; "a": 3 outputs, counted 2`},
		{outputs{"a": {"2"}, "b": {"1"}}, `"a": output 1 is 2; "a": 1 outputs, counted 2`},
		{outputs{"a": {"1", "2"}, "b": {"1"}, "c": {"1"}}, `"c" was never written`},
	} {
		if got := strings.Join(c.got.wrong(counts{"a": 2, "b": 1}), "; "); got != c.want {
			t.Errorf("%v: %q, want %q", c.got, got, c.want)
		}
	}
}
