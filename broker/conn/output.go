package conn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/quorlog/quorlog/kafkaproto"

	"golang.org/x/sys/unix"
)

const (
	// outBuffer gathers small answers. A connection has one only while it answers.
	outBuffer = 32 << 10
	// copyBelow is the size below which bytes are cheaper to copy into the buffer than to hand over by themselves.
	copyBelow = 2 << 10
	// regionCopyBelow is the same for regions: below it a read and a shared write beat sendfile's system calls.
	regionCopyBelow = 16 << 10
	// writeStep is what a peer has to take within Limits.Write. Sendfile in steps of 256 KiB took 1.6 times as long.
	writeStep = 1 << 20
	// headerSize is the most that stands in front of a body: length, correlation id, empty tags.
	headerSize = 4 + 4 + 1
)

// errShortRegion means that files hold less than the answer has promised; the client can't be kept in step.
var errShortRegion = errors.New("a file is shorter than its region")

var outBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, outBuffer)
	return &b
}}

// output gathers answers and writes them to the connection.
//
// Bytes to be written are: the entries of vec, then buf[cut:]. The entries of vec alias buf and the bodies of answers.
type output struct {
	net     net.Conn
	tcp     *net.TCPConn // what net is, if sendfile and writev work on it
	timeout time.Duration
	counts  *counters

	linger    lingerer // nil if there is nothing to say about the connection's end
	unsettled bool     // nothing was answered yet: see abrupt
	substance bool     // an answer counts

	buf    *[]byte
	cut    int
	vec    net.Buffers
	size   int   // bytes in vec
	broken error // the first failure, after which nobody knows what the peer has got
}

func (o *output) init(nc net.Conn, timeout time.Duration, counts *counters) {
	o.net, o.tcp, o.timeout, o.counts = nc, plainTCP(nc), timeout, counts
	o.linger, o.unsettled = nc.(lingerer)
	if o.unsettled {
		abrupt(o.linger)
	}
}

// lingerer is a TCP connection, or one above it, such as of TLS.
type lingerer interface{ SetLinger(seconds int) error }

// abrupt makes a connection end with a reset, whoever ends it: this program, or the kernel when it is killed. So a connection
// ends until its first answer, but for those about versions and passwords: an orderly end before that tells many clients that
// they were refused, for want of TLS or for a wrong password, and they give up; franz-go fails what it was to send. A reset makes
// them try again, here or at another node.
func abrupt(nc lingerer) {
	_ = nc.SetLinger(0) // fails only if the connection is closed
}

// Reset closes a connection that comes too early.
func Reset(nc net.Conn) {
	if l, ok := nc.(lingerer); ok {
		abrupt(l)
	}
	_ = nc.Close()
}

// settle makes the connection end in order from now on.
func (o *output) settle() {
	if o.unsettled {
		o.unsettled = false
		_ = o.linger.SetLinger(-1) // fails only if the connection is closed
	}
}

// plainTCP returns the TCP connection behind a connection whose bytes go to it unchanged. TLS connections have none.
func plainTCP(nc net.Conn) *net.TCPConn {
	switch c := nc.(type) {
	case *net.TCPConn:
		return c
	case interface{ TCP() *net.TCPConn }: // what portmux hands out
		return c.TCP()
	}
	return nil
}

// buffered returns the bytes that wait for flush.
func (o *output) buffered() int {
	if o.buf == nil {
		return 0
	}
	return o.size + len(*o.buf) - o.cut
}

// room returns the buffer with space for n more bytes, of at most outBuffer.
func (o *output) room(n int) (*[]byte, error) {
	if o.buf != nil && cap(*o.buf)-len(*o.buf) < n {
		if err := o.flush(); err != nil {
			return nil, err
		}
	}
	if o.buf == nil {
		o.buf = outBuffers.Get().(*[]byte)
	}
	return o.buf, nil
}

// add writes an answer, or gathers it for flush. It releases the body's regions.
func (o *output) add(h kafkaproto.RequestHeader, body kafkaproto.Encoded) error {
	defer body.Release()
	size, err := o.addParts(h, body)
	if err != nil {
		o.broken = err
		return err
	}
	o.counts.bytesOut.Add(int64(size))
	o.substance = o.substance || !preamble(h.Key)
	return nil
}

// preamble tells the keys with which clients begin a connection. Their answers are none yet: what follows may still be refused.
func preamble(k kafkaproto.Key) bool {
	return k == kafkaproto.KeyApiVersions || k == kafkaproto.KeySASLHandshake || k == kafkaproto.KeySASLAuthenticate
}

// addParts does the work of add, and returns how long the answer is.
func (o *output) addParts(h kafkaproto.RequestHeader, body kafkaproto.Encoded) (int, error) {
	buf, err := o.room(headerSize)
	if err != nil {
		return 0, err
	}
	at := len(*buf)
	*buf = append(*buf, 0, 0, 0, 0)
	*buf = kafkaproto.AppendResponseHeader(*buf, h)
	size := len(*buf) - at + body.Size
	binary.BigEndian.PutUint32((*buf)[at:], uint32(size-4))
	for i := range body.Parts {
		if r := body.Parts[i].Region; r != nil {
			err = o.addRegion(r)
		} else {
			err = o.addBytes(body.Parts[i].Bytes)
		}
		if err != nil {
			return 0, err
		}
	}
	return size, nil
}

// addBytes gathers bytes: small ones by copying, others by reference, which stays until the next flush.
func (o *output) addBytes(b []byte) error {
	if len(b) < copyBelow {
		buf, err := o.room(len(b))
		if err != nil {
			return err
		}
		*buf = append(*buf, b...)
		return nil
	}
	for len(b) > 0 {
		if _, err := o.room(0); err != nil {
			return err
		}
		n := min(len(b), writeStep)
		o.cutBuffer()
		o.vec = append(o.vec, b[:n:n])
		o.size += n
		b = b[n:]
		if o.size >= writeStep {
			if err := o.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// cutBuffer moves what is in the buffer to the end of vec, so that something can follow it there.
func (o *output) cutBuffer() {
	if b := (*o.buf)[o.cut:]; len(b) > 0 {
		o.vec = append(o.vec, b)
		o.size += len(b)
		o.cut = len(*o.buf)
	}
}

// flush writes what has gathered. Once something has failed it only forgets it.
func (o *output) flush() error {
	if o.buf == nil {
		return o.broken
	}
	err := o.broken
	if err == nil {
		if err = o.writeGathered(); err == nil && o.substance {
			o.settle()
		}
	}
	o.broken = err
	clear(o.vec)
	o.vec, o.size, o.cut = o.vec[:0], 0, 0
	*o.buf = (*o.buf)[:0]
	outBuffers.Put(o.buf)
	o.buf = nil
	return err
}

func (o *output) writeGathered() error {
	if o.buffered() == 0 {
		return nil
	}
	if err := o.deadline(); err != nil {
		return err
	}
	if len(o.vec) == 0 {
		_, err := o.net.Write((*o.buf)[o.cut:])
		return err
	}
	o.cutBuffer()
	vec := o.vec // WriteTo consumes its receiver
	var err error
	if o.tcp != nil {
		_, err = vec.WriteTo(o.tcp)
	} else {
		_, err = vec.WriteTo(o.net)
	}
	return err
}

func (o *output) deadline() error { return o.net.SetWriteDeadline(time.Now().Add(o.timeout)) }

// addRegion writes a region: a small one through the buffer, others from file to socket where that is possible.
func (o *output) addRegion(r kafkaproto.Region) error {
	if r.Len() < regionCopyBelow {
		buf, err := o.room(r.Len())
		if err != nil {
			return err
		}
		return o.appendRegion(buf, r)
	}
	ranges, ok := r.FileRanges()
	if !ok {
		whole := []byte(nil)
		if err := o.appendRegion(&whole, r); err != nil {
			return err
		}
		return o.addBytes(whole)
	}
	if total(ranges) != r.Len() {
		return fmt.Errorf("%w: ranges of %d bytes for %d", errShortRegion, total(ranges), r.Len())
	}
	for i := range ranges {
		var err error
		if o.tcp != nil && haveSendfile {
			err = o.sendRange(ranges[i])
		} else {
			err = o.copyRange(ranges[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// appendRegion copies a region to the end of a buffer.
func (o *output) appendRegion(buf *[]byte, r kafkaproto.Region) error {
	before := len(*buf)
	grown, err := r.AppendTo(*buf)
	if err != nil {
		return err
	}
	if got := len(grown) - before; got != r.Len() {
		return fmt.Errorf("%w: %d bytes of %d", errShortRegion, got, r.Len())
	}
	*buf = grown
	return nil
}

func total(ranges []kafkaproto.FileRange) int {
	n := 0
	for i := range ranges {
		n += ranges[i].Len
	}
	return n
}

// copyRange writes a range of a file through a buffer of bounded size, for connections that need the bytes (TLS).
func (o *output) copyRange(r kafkaproto.FileRange) error {
	if err := o.flush(); err != nil {
		return err
	}
	buf := outBuffers.Get().(*[]byte)
	defer outBuffers.Put(buf)
	for r.Len > 0 {
		b := (*buf)[:min(r.Len, cap(*buf))]
		n, err := pread(r.Fd, b, r.Offset)
		if err != nil {
			return fmt.Errorf("reading a region: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("%w: nothing at %d, %d expected", errShortRegion, r.Offset, r.Len)
		}
		if err := o.deadline(); err != nil {
			return err
		}
		if _, err := o.net.Write(b[:n]); err != nil {
			return err
		}
		r.Offset, r.Len = r.Offset+int64(n), r.Len-n
	}
	return nil
}

// pread reads from an offset of a descriptor.
func pread(fd uintptr, b []byte, offset int64) (int, error) {
	for {
		n, err := unix.Pread(int(fd), b, offset)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
