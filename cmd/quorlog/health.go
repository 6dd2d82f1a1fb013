package main

import (
	"fmt"
	"slices"
)

// health is how a cluster does, in a word and the reasons for it.
type health struct {
	Word    string   `json:"health"` // healthy, degraded or down
	Reasons []string `json:"reasons"`
	Hints   []string `json:"hints,omitempty"` // what is not wrong but worth knowing
}

// The words.
const (
	healthy  = "healthy"
	degraded = "degraded" // everything is served, but a further loss may hurt
	down     = "down"     // something is not served
)

// assess finds out how a cluster does.
func (v *clusterView) assess() health {
	h := health{Word: healthy, Reasons: []string{}}
	worse := h.worse
	var leaderless, lacking []partitionView
	for _, p := range v.Partitions {
		switch {
		case p.Leader < 0:
			leaderless = append(leaderless, p)
		case len(p.lacking()) > 0:
			lacking = append(lacking, p)
		}
	}
	if len(leaderless) > 0 {
		worse(down, "%d of %s have no leader: %s", len(leaderless), plural(len(v.Partitions), "partition"), namesOf(leaderless))
	}
	if v.Controller < 0 {
		worse(down, "no controller is known: topics and settings can't be changed")
	}
	for _, n := range v.Nodes {
		if !n.there() {
			worse(degraded, "node %d is %s; it has %s", n.ID, n.state(), plural(n.Replicas, "replica"))
		}
	}
	if len(lacking) > 0 {
		worse(degraded, "%d of %s lack replicas in sync: %s", len(lacking), plural(len(v.Partitions), "partition"), namesOf(lacking))
	}
	if h.Word == healthy {
		h.Reasons = append(h.Reasons, v.wellness())
	}
	h.Hints = v.hints()
	return h
}

// worse adds a reason for not being healthy.
func (h *health) worse(word, format string, args ...any) {
	if h.Word == healthy {
		h.Reasons = nil // what was well
	}
	if h.Word != down {
		h.Word = word
	}
	h.Reasons = append(h.Reasons, fmt.Sprintf(format, args...))
}

// assessMetadata adds how the metadata group does. It has an odd number of votes; while it has an even number, a replica that
// comes has not got its vote yet, and two of two can lose none.
func (h *health) assessMetadata(q *quorumView) {
	votes := 0
	for _, r := range q.Replicas {
		if r.Role != "learner" {
			votes++
		}
	}
	if votes%2 == 0 {
		h.worse(degraded, "the metadata has %d votes, and should have %d: a replica has not got its vote yet", votes, votes+1)
	}
}

// wellness says what is well.
func (v *clusterView) wellness() string {
	nodes := "the only node is there"
	if len(v.Nodes) != 1 {
		nodes = fmt.Sprintf("all %d nodes are there", len(v.Nodes))
	}
	switch len(v.Partitions) {
	case 0:
		return nodes + "; there are no topics yet"
	case 1:
		return nodes + ", the only partition has a leader and all its replicas in sync"
	}
	return fmt.Sprintf("%s, all %d partitions have a leader and all their replicas in sync", nodes, len(v.Partitions))
}

func (v *clusterView) hints() (hints []string) {
	moving, strayed, single := 0, 0, 0
	for _, p := range v.Partitions {
		if p.moving() {
			moving++
		}
		if len(p.Replicas) == 1 {
			single++
		}
		if target := p.target(); p.Leader >= 0 && len(target) > 0 && p.Leader != target[0] && slices.Contains(p.inSync(), target[0]) {
			if n, _ := v.node(target[0]); !n.Draining {
				strayed++
			}
		}
	}
	for _, n := range v.Nodes {
		if n.Draining && n.there() {
			hints = append(hints, fmt.Sprintf("node %d is %s; `quorlog node undrain %[1]d` ends that", n.ID, n.state()))
		}
	}
	if moving > 0 {
		hints = append(hints, fmt.Sprintf("%s on the move to other nodes; `quorlog topic reassign --list` shows them", isOrAre(moving, "partition")))
	}
	if strayed > 0 {
		hints = append(hints, fmt.Sprintf("%s not led by the preferred replica; `quorlog topic elect-leaders` changes that at once, the balancer in a while",
			isOrAre(strayed, "partition")))
	}
	if single > 0 && len(v.Nodes) >= 3 {
		hints = append(hints, fmt.Sprintf("%s on a single node only; `quorlog topic reassign TOPIC --replication-factor 3` changes that", isOrAre(single, "partition")))
	}
	return hints
}

func isOrAre(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " is"
	}
	return fmt.Sprintf("%d %ss are", n, noun)
}
