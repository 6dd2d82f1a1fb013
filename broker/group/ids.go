package group

import (
	"crypto/rand"
	"fmt"
	"unicode/utf8"
)

// javaHash is Java's String.hashCode: over UTF-16 code units, in 32 bits that wrap. A byte that is no UTF-8 counts as
// U+FFFD, which is what a Java broker would have decoded it to.
func javaHash(s string) int32 {
	var h int32
	for _, r := range s {
		if r >= 0x10000 {
			r -= 0x10000
			h = 31*h + int32(0xd800+r>>10)
			h = 31*h + int32(0xdc00+r&0x3ff)
			continue
		}
		h = 31*h + r
	}
	return h
}

// maxIDPrefix bounds what a client's own words add to the member ids of a group, in bytes.
const maxIDPrefix = 256

// newMemberID is unique, and tells an administrator who it is: a static member's instance, or the client's id.
func newMemberID(clientID, instance string) string {
	prefix := instance
	if prefix == "" {
		prefix = clientID
	}
	for len(prefix) > maxIDPrefix {
		_, n := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-n]
	}
	var u [16]byte
	rand.Read(u[:]) // never fails (crypto/rand)
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%s-%x-%x-%x-%x-%x", prefix, u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
