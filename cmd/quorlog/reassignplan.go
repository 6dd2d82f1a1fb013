package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// plan finds out what to move.
func (v *clusterView) plan(f reassignFlags, topics []string) ([]move, error) {
	chosen, err := v.choose(topics, f.partition)
	if err != nil {
		return nil, err
	}
	var explicit []int32
	if f.replicas != "" {
		if explicit, err = parseNodes(f.replicas); err != nil {
			return nil, err
		}
	}
	for _, id := range slices.Concat(explicit, []int32{f.to}) {
		if n, known := v.node(id); id >= 0 && (!known || !n.there()) {
			return nil, fmt.Errorf("node %d is not there", id)
		}
	}
	load := v.load()
	var moves []move
	for _, p := range chosen {
		now := p.target()
		var target []int32
		switch {
		case f.cancel:
			if p.moving() {
				moves = append(moves, move{Topic: p.Topic, Partition: p.Partition, Replicas: now})
			}
			continue
		case explicit != nil:
			target = explicit
		case f.from >= 0:
			target, err = load.replace(now, f.from, f.to)
		default:
			target, err = load.resize(now, f.factor)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name(), err)
		}
		if !slices.Equal(target, now) {
			moves = append(moves, move{Topic: p.Topic, Partition: p.Partition, Replicas: now, Target: target})
		}
	}
	return moves, nil
}

// choose are the partitions that the command line names.
func (v *clusterView) choose(topics []string, partition int32) ([]partitionView, error) {
	missing := map[string]bool{}
	for _, t := range topics {
		missing[t] = true
	}
	var chosen []partitionView
	for _, p := range v.Partitions {
		if len(topics) > 0 && !slices.Contains(topics, p.Topic) || partition >= 0 && p.Partition != partition {
			continue
		}
		delete(missing, p.Topic)
		chosen = append(chosen, p)
	}
	if len(missing) > 0 {
		what := "topic"
		if partition >= 0 {
			what = fmt.Sprintf("partition %d of topic", partition)
		}
		return nil, fmt.Errorf("there is no %s %s", what, strings.Join(slices.Sorted(maps.Keys(missing)), ", "))
	}
	return chosen, nil
}

// nodeLoad counts replicas while moves are planned, so that the planned ones count.
type nodeLoad struct {
	nodes    []nodeView // those that may get replicas
	replicas map[int32]int
	rack     map[int32]string // of all nodes
}

func (v *clusterView) load() *nodeLoad {
	l := &nodeLoad{replicas: map[int32]int{}, rack: map[int32]string{}}
	for _, n := range v.Nodes {
		l.rack[n.ID], l.replicas[n.ID] = n.Rack, n.Replicas
		if n.there() && !n.Draining {
			l.nodes = append(l.nodes, n)
		}
	}
	return l
}

// replace puts another node in a node's place; to < 0 chooses it. The place in the list stays, and so does who leads.
func (l *nodeLoad) replace(replicas []int32, from, to int32) ([]int32, error) {
	at := slices.Index(replicas, from)
	if at < 0 {
		return replicas, nil
	}
	if slices.Contains(replicas, to) {
		return nil, fmt.Errorf("nodes %d and %d both have a replica; name no --to, or change this partition with --replicas", from, to)
	}
	target := slices.Clone(replicas)
	if to < 0 {
		var err error
		if to, err = l.pick(without(replicas, []int32{from}), from); err != nil {
			return nil, err
		}
	}
	target[at] = to
	l.replicas[from]--
	l.replicas[to]++
	return target, nil
}

// resize changes the number of replicas; the last ones go.
func (l *nodeLoad) resize(replicas []int32, factor int) ([]int32, error) {
	target := slices.Clone(replicas[:min(factor, len(replicas))])
	for _, id := range replicas[len(target):] {
		l.replicas[id]--
	}
	for len(target) < factor {
		id, err := l.pick(target, -1)
		if err != nil {
			return nil, err
		}
		target = append(target, id)
		l.replicas[id]++
	}
	return target, nil
}

// pick chooses a node for one more replica: not one that has one or that is left, in a rack that has the fewest of them,
// with the fewest replicas.
func (l *nodeLoad) pick(have []int32, left int32) (int32, error) {
	inRack := func(id int32) (n int) {
		for _, other := range have {
			if l.rack[id] != "" && l.rack[other] == l.rack[id] {
				n++
			}
		}
		return n
	}
	free := slices.DeleteFunc(slices.Clone(l.nodes), func(n nodeView) bool { return n.ID == left || slices.Contains(have, n.ID) })
	if len(free) == 0 {
		return 0, fmt.Errorf("no node is left for one more replica beside %s: start another one first", cmp.Or(join32(have), "none"))
	}
	best := slices.MinFunc(free, func(a, b nodeView) int {
		return cmp.Or(cmp.Compare(inRack(a.ID), inRack(b.ID)), cmp.Compare(l.replicas[a.ID], l.replicas[b.ID]), cmp.Compare(a.ID, b.ID))
	})
	return best.ID, nil
}
