package replication

import "slices"

// Node is a broker as the cluster knows it.
type Node struct {
	ID   NodeID
	Host string // of the listener for other nodes, its first
	Port int32
	Rack string
	// Endpoints are where clients reach it, for each of its listeners; nil for a node that has said nothing of that.
	Endpoints []Endpoint
}

// Endpoint is where clients of a listener reach a node.
type Endpoint struct {
	Listener string // its name
	Host     string
	Port     int32
}

// At is the node as clients of a listener know it: with the address of its listener of the same name. It is false if it has none,
// so that such a client cannot reach it. A node that has said nothing of its listeners has one address for all, and "" stands for
// the other nodes, who use the first.
func (n Node) At(listener string) (Node, bool) {
	if len(n.Endpoints) == 0 || listener == "" {
		return n, true
	}
	for _, e := range n.Endpoints {
		if e.Listener == listener {
			n.Host, n.Port = e.Host, e.Port
			return n, true
		}
	}
	return Node{ID: NoNode}, false
}

// Equal tells whether two descriptions of a node say the same.
func (n Node) Equal(o Node) bool {
	return n.ID == o.ID && n.Host == o.Host && n.Port == o.Port && n.Rack == o.Rack && slices.Equal(n.Endpoints, o.Endpoints)
}
