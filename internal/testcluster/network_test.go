package testcluster

import "testing"

// The names of a network that is removed are free at once, whatever was in its namespaces.
func TestNetworkAgain(t *testing.T) {
	n := NewNetwork(t, 3)
	for range 10 {
		n.remove()
		n.spaces = nil
		if err := n.claim(); err != nil {
			t.Fatal(err)
		}
		if err := n.build(3); err != nil {
			t.Fatal(err)
		}
	}
}
