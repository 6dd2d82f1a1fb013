package share

import "testing"

func TestKey(t *testing.T) {
	for _, k := range []Key{{Group: "g", Partition: 3}, {Group: "a:b:", Topic: [16]byte{1, 255}, Partition: 0}, {}} {
		if got, err := ParseKey(k.String()); err != nil || got != k {
			t.Errorf("%q is %+v, %v", k.String(), got, err)
		}
	}
	for _, s := range []string{"", "g", "g:1", "g:x:1", "g:AAAAAAAAAAAAAAAAAAAAAA:-1", "g:AAAAAAAAAAAAAAAAAAAAAA:x", ":::"} {
		if got, err := ParseKey(s); err == nil {
			t.Errorf("%q is %+v", s, got)
		}
	}
}
