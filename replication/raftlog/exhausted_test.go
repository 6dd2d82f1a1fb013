package raftlog

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

// Where descriptors or mappings are missing, an entry is read later. Only a start, at which Raft looks for configurations, fails.
func TestAShortageDoesNotPoison(t *testing.T) {
	for _, rule := range []vfs.Rule{
		{Op: vfs.OpOpen, Match: func(name string) bool { return strings.HasSuffix(name, ".log") }, Err: syscall.EMFILE, Last: -1},
		{Op: vfs.OpMap, Err: syscall.ENOMEM, Last: -1},
	} {
		in := vfs.Inject(vfs.NewMem())
		s, l, _ := newStore(t, in)
		fill(t, s, 12)
		apply(t, l, l.LastIndex())
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		s, l, failures := newStore(t, in)
		in.Arm(rule)
		var e raft.Log
		if err := s.GetLog(1, &e); err != nil || e.Type != raft.LogNoop || e.Term != 1 {
			t.Errorf("%v: at the start: %+v, %v", rule.Err, e, err)
		}
		if err := s.Started(); !errors.Is(err, rule.Err) {
			t.Errorf("%v: the start: %v", rule.Err, err)
		}
		s = NewStore(l, nil, func(err error) { *failures = append(*failures, err) })
		if err := s.Started(); err != nil {
			t.Fatal(err)
		}
		if err := s.GetLog(1, &e); err != nil || e.Term != 1 || e.Index != 1 || Size(&e) != unknownSize {
			t.Errorf("%v: %+v, %v", rule.Err, e, err)
		}
		if _, err := s.Fill(&e); !errors.Is(err, rule.Err) {
			t.Errorf("%v: %v", rule.Err, err)
		}
		if s.Failed() != nil || len(*failures) > 0 {
			t.Errorf("%v: poisoned by %v, %v", rule.Err, s.Failed(), *failures)
		}
		if err := s.StoreLog(command(uint64(l.LastIndex())+1, 1, frame(t, 1, batch.BuildOptions{}, "v"))); err != nil {
			t.Errorf("%v: %v", rule.Err, err)
		}
		in.Disarm()
		if full, err := s.Fill(&e); err != nil || full.Type != raft.LogConfiguration || len(full.Data) == 0 {
			t.Errorf("%v: afterwards: %+v, %v", rule.Err, full, err)
		}
	}
}
