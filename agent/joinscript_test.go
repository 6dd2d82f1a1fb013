package agent

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/internal/scripts"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

// TestJoinScripts plays testdata/join/*.txt. The commands are told in joinScript.do.
func TestJoinScripts(t *testing.T) {
	scripts.Lines(t, "testdata/join/*.txt", func(t *testing.T) func([]string) []string {
		return (&joinScript{t: t, w: newJoinWorld(t)}).do
	})
}

// joinScript is a world under a script. Cluster and directory ids are random; in what is said they have names.
type joinScript struct {
	t     *testing.T
	w     *joinWorld
	names []string // pairs: id, name
}

func (s *joinScript) id(word string) replication.NodeID {
	n, err := strconv.Atoi(word)
	if err != nil {
		s.t.Fatalf("%q is no node", word)
	}
	return replication.NodeID(n)
}

// do does a line: what it says, and what has changed in the nodes' states.
func (s *joinScript) do(words []string) (said []string) {
	before := s.states()
	switch id := s.id(words[1]); words[0] {
	case "start": // node [expect n] [join]
		said = s.start(id, words[2:])
	case "step":
		said = s.step(id)
	case "crash":
		s.w.node(id).crash(nil, vfs.CrashOptions{})
	case "wipe":
		s.w.node(id).wipe()
	case "blind", "cut": // a node of others, in one direction
		for _, other := range words[2:] {
			pair := [2]replication.NodeID{id, s.id(other)}
			if words[0] == "blind" {
				s.w.mu.blind[pair] = true
			} else {
				s.w.mu.cut[pair] = true
			}
		}
	case "sees": // a node everybody
		for pair := range s.w.mu.blind {
			if pair[0] == id {
				delete(s.w.mu.blind, pair)
			}
		}
	case "calls":
		for pair := range s.w.mu.cut {
			if pair[0] == id {
				delete(s.w.mu.cut, pair)
			}
		}
	default:
		s.t.Fatalf("%q is nothing to do", words)
	}
	after := s.states()
	for _, id := range s.w.ids() {
		if now := after[id]; now != before[id] {
			said = append(said, fmt.Sprintf("node %d is %s", id, now))
		}
	}
	for i := range said {
		said[i] = s.named(said[i])
	}
	return said
}

func (s *joinScript) states() map[replication.NodeID]string {
	out := map[replication.NodeID]string{}
	for _, id := range s.w.ids() {
		out[id] = s.w.nodes[id].state()
	}
	return out
}

func (s *joinScript) start(id replication.NodeID, words []string) []string {
	expect, join := 1, false
	for i, word := range words {
		switch word {
		case "expect":
			expect, _ = strconv.Atoi(words[i+1])
		case "join":
			join, expect = true, 0
		}
	}
	if i := slices.Index(words, "expect"); i >= 0 {
		expect, _ = strconv.Atoi(words[i+1])
	}
	n := s.w.node(id)
	if err := n.start(expect, join); err != nil {
		return []string{"error: " + fmt.Sprint(err)}
	}
	return nil
}

func (s *joinScript) step(id replication.NodeID) []string {
	n := s.w.node(id)
	step := nextBootStep(n.j.view())
	if step.kind == bootDone {
		r := n.j.result()
		if err := n.open(r); err != nil {
			s.t.Fatal(err)
		}
		said := "opens the metadata group as " + r.Meta.String()
		if r.Found {
			said += ", and begins it"
		}
		return []string{said}
	}
	said := []string{step.why}
	if _, err := n.j.take(s.t.Context(), step); err != nil {
		lines := strings.Split(fmt.Sprint(err), "\n")
		slices.Sort(lines)
		for _, line := range lines {
			said = append(said, "but "+line)
		}
	}
	return said
}

// named puts names in the place of random ids.
func (s *joinScript) named(text string) string {
	add := func(id, name string) {
		if id != "" && !slices.Contains(s.names, id) {
			s.names = append(s.names, id, name)
		}
	}
	clusters := func() (n int) {
		for _, name := range s.names {
			if len(name) == 1 {
				n++
			}
		}
		return n
	}
	for _, id := range s.w.ids() {
		n := s.w.nodes[id]
		if n.store == nil {
			continue
		}
		i := n.store.get()
		for _, cluster := range []string{i.ClusterID, i.Promise.ClusterID} {
			add(cluster, string(rune('A'+clusters())))
		}
		add(i.Directory.String(), fmt.Sprintf("dir-%d", len(s.names)))
	}
	return strings.NewReplacer(s.names...).Replace(text)
}
