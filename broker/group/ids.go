package group

import (
	"crypto/rand"
	"fmt"
	"unicode/utf8"
)

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
