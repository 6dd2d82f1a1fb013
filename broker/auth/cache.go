package auth

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

const (
	// cacheSlots bounds what is remembered: more than the principals, topics and groups that a busy node sees in a minute.
	cacheSlots = 1 << 13
	// mostCached is the longest name or principal, in bytes, that is worth remembering: longer ones are rare, and a client that
	// asks for many must not fill the memory.
	mostCached = 300
)

// cache remembers decisions of one policy. A slot holds the last decision that fell on it, so nothing needs a lock and
// nothing grows. The zero value is empty.
type cache struct {
	slots [cacheSlots]atomic.Pointer[decision]
}

type decision struct {
	question question
	allowed  bool
}

var cacheSeed = maphash.MakeSeed()

// decide answers a question from memory, or by think.
func (c *cache) decide(q question, think func() bool) bool {
	if len(q.resource.Name) > mostCached || len(q.who.principal) > mostCached {
		return think()
	}
	slot := &c.slots[maphash.Comparable(cacheSeed, q)%cacheSlots]
	if d := slot.Load(); d != nil && d.question == q {
		return d.allowed
	}
	d := &decision{q, think()}
	// The name may be part of a request, which must not be kept for its sake.
	d.question.resource.Name = strings.Clone(q.resource.Name)
	slot.Store(d)
	return d.allowed
}
