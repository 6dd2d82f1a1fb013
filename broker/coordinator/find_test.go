package coordinator

import "testing"

func TestPartitionOf(t *testing.T) {
	// Java hashes UTF-16: the clef is a pair. The last name is known for hashing to Integer.MIN_VALUE.
	for group, hash := range map[string]int32{
		"": 0, "a": 97, "group": 98629247, "Grüße": 69215351, "𝄞": 0xd834*31 + 0xdd1e, "polygenelubricants": -2147483648,
	} {
		if got := javaHash(group); got != hash {
			t.Errorf("javaHash(%q) = %d, want %d", group, got, hash)
		}
	}
	if p := PartitionOf("polygenelubricants", 50); p != 0 {
		t.Errorf("the partition of the least hash is %d", p)
	}
}
