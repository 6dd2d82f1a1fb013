//go:build !linux

package conn

import "github.com/quorlog/quorlog/kafkaproto"

// haveSendfile tells that sendRange works.
const haveSendfile = false

// sendRange copies, where sendfile has other forms than Linux's.
func (o *output) sendRange(r kafkaproto.FileRange) error { return o.copyRange(r) }
