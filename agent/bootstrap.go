package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/membership"
)

// How a node finds its cluster, before it opens the metadata group. Nothing here does I/O: nextBootStep looks at what the node
// durably is and at what the gossip shows, and names the next step. The joiner (joiner.go) takes it.
//
// A cluster is founded by one node, whose replica is the metadata group's first and only voter; all others join. So all that
// matters is that at most one of the nodes that wait founds. With --bootstrap-expect N:
//
//  1. Once N nodes that belong to no cluster and expect N see each other, the one with the lowest id makes itself the candidate,
//     durably, for a cluster id that it makes up, and asks the others for their promises.
//  2. Each gives one promise, durably, to a node with a lower id. A candidate that is asked gives up its candidacy by that.
//  3. With the promises of all that it sees, at least N-1, the candidate founds: durably, before the metadata group begins.
//  4. The others see the cluster's id in the gossip and register with it.
//
// Two foundings would need N nodes each, and no node helps two. A crash at any point leaves the node in a state from which
// the same steps lead on: what is asked again is promised again to the same founder's same directory. A promise whose founder never
// comes back binds for ever, since the cluster may have been founded; only the operator knows better, and is told what to do.
// A founder that has turned from its candidacy says so when it is asked, and frees those who promised it.

// bootView is what a node decides from.
type bootView struct {
	self   identity
	expect int
	join   bool // --join was given
	// others are the live members of the gossip but this node, by id.
	others []membership.Member
	// granted are the promises for this node's candidacy, and who gave them.
	granted map[replication.NodeID]directoryID
	file    string // of the identity, for messages
}

type bootKind uint8

const (
	bootWait      bootKind = iota // for others; why says for what
	bootDone                      // the metadata group can be opened
	bootAlone                     // found a cluster of one
	bootCandidate                 // become the candidate
	bootAsk                       // ask members for their promises
	bootFound                     // found what the candidacy was for
	bootRegister                  // have a cluster's members take this node in
	bootPoll                      // ask the founder what became of its candidacy
)

// bootStep is the next step.
type bootStep struct {
	kind    bootKind
	members []membership.Member
	cluster string // to register with
	why     string // for the log: what the node does or waits for
}

func bootWaits(format string, args ...any) bootStep {
	return bootStep{why: fmt.Sprintf(format, args...)}
}

func nextBootStep(v bootView) bootStep {
	if !v.self.State.waits() {
		return bootStep{kind: bootDone}
	}
	clusters := map[string][]membership.Member{}
	for _, m := range v.others {
		if m.Cluster != "" {
			clusters[m.Cluster] = append(clusters[m.Cluster], m)
		}
	}
	if len(clusters) > 1 {
		return bootWaits("nodes of several clusters are in sight: %s; this node joins none until it is told which by --join", describeClusters(v.others))
	}
	for id, members := range clusters {
		return bootStep{kind: bootRegister, members: members, cluster: id, why: "joining cluster " + id}
	}
	switch {
	case v.self.State == promised:
		return afterPromise(v)
	case v.expect == 1 && !v.join:
		return bootStep{kind: bootAlone, why: "founding a cluster of one"}
	case v.expect < 2:
		return bootWaits("no member of a cluster is in sight")
	}
	return expecting(v)
}

// describeClusters lists the nodes that belong to a cluster.
func describeClusters(members []membership.Member) string {
	var parts []string
	for _, m := range members {
		if m.Cluster != "" {
			parts = append(parts, fmt.Sprintf("%s on node %d (%s)", m.Cluster, m.Node, m.Addr))
		}
	}
	return strings.Join(parts, ", ")
}

// afterPromise follows the founder.
func afterPromise(v bootView) bootStep {
	p := v.self.Promise
	i := slices.IndexFunc(v.others, func(m membership.Member) bool { return m.Node == p.Founder })
	if i < 0 {
		return bootWaits("node %d has this node's promise for cluster %s but is not in sight: start it; if its data directory is lost for ever, delete %s here",
			p.Founder, p.ClusterID, v.file)
	}
	if founder := v.others[i]; directoryID(founder.Directory) != p.Directory {
		return bootWaits("node %d had this node's promise for cluster %s, and has come back with another data directory (%s, not %s): start it with the former one; "+
			"if that is lost for ever, delete %s here", p.Founder, p.ClusterID, directoryID(founder.Directory), p.Directory, v.file)
	}
	return bootStep{kind: bootPoll, members: v.others[i : i+1], why: fmt.Sprintf("node %d founds cluster %s", p.Founder, p.ClusterID)}
}

// expecting is how nodes without a cluster come to one together.
func expecting(v bootView) bootStep {
	var peers, odd []membership.Member
	for _, m := range v.others {
		switch {
		case m.Fresh && m.Expect == v.expect:
			peers = append(peers, m)
		case m.Fresh && m.Expect > 0:
			odd = append(odd, m)
		}
	}
	if 1+len(peers) < v.expect {
		return bootWaits("%d of %d nodes without a cluster are in sight: %s%s", 1+len(peers), v.expect, nodesOf(v.self.NodeID, peers), oddOnes(v.expect, odd))
	}
	lowest := slices.MinFunc(peers, func(a, b membership.Member) int { return cmp.Compare(a.Node, b.Node) })
	missing := slices.DeleteFunc(slices.Clone(peers), func(m membership.Member) bool {
		by, ok := v.granted[m.Node]
		return ok && by == directoryID(m.Directory)
	})
	switch {
	case v.self.State == candidate && len(missing) == 0:
		return bootStep{kind: bootFound, why: fmt.Sprintf("founding cluster %s for nodes %s", v.self.Promise.ClusterID, nodesOf(v.self.NodeID, peers))}
	case lowest.Node < v.self.NodeID:
		return bootWaits("%d nodes without a cluster are in sight; node %d will found one", 1+len(peers), lowest.Node)
	case v.self.State == fresh:
		return bootStep{kind: bootCandidate, why: fmt.Sprintf("going to found a cluster for nodes %s", nodesOf(v.self.NodeID, peers))}
	}
	return bootStep{kind: bootAsk, members: missing, why: "waiting for the promises of nodes " + nodesOf(replication.NoNode, missing)}
}

// nodesOf lists ids for a message.
func nodesOf(self replication.NodeID, members []membership.Member) string {
	var ids []int
	if self != replication.NoNode {
		ids = append(ids, int(self))
	}
	for _, m := range members {
		ids = append(ids, int(m.Node))
	}
	slices.Sort(ids)
	return strings.Trim(fmt.Sprint(ids), "[]")
}

func oddOnes(expect int, odd []membership.Member) string {
	var b strings.Builder
	for _, m := range odd {
		fmt.Fprintf(&b, "; node %d does not count: its --bootstrap-expect is %d, not %d", m.Node, m.Expect, expect)
	}
	return b.String()
}

// grant decides about a request for this node's promise. It changes the identity where it grants. The refusal is for the asker's log.
func grant(self *identity, expect int, ask promise, askExpect int) (refusal string) {
	switch {
	case !self.State.waits():
		return "it belongs to cluster " + cmp.Or(self.ClusterID, "of its own")
	case askExpect != expect:
		return fmt.Sprintf("its --bootstrap-expect is %d, not %d", expect, askExpect)
	case ask.Founder >= self.NodeID:
		return "promises go to nodes with lower ids only"
	case self.State == promised && (self.Promise.Founder != ask.Founder || self.Promise.Directory != ask.Directory):
		return fmt.Sprintf("it has promised node %d with directory %s", self.Promise.Founder, self.Promise.Directory)
	}
	self.State, self.Promise = promised, ask
	return ""
}

// release decides, with what the founder says of itself, whether a promise is still needed.
func release(self *identity, says stateAnswer) {
	held := self.State == promised && self.Promise.Founder == says.Node && self.Promise.Directory == says.Directory
	stands := says.ClusterID != "" || says.State == founding || says.State == candidate && says.Candidacy == self.Promise.ClusterID
	if held && !stands {
		self.State, self.Promise = fresh, promise{}
	}
}
