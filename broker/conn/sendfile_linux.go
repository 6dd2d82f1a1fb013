package conn

import (
	"errors"
	"fmt"

	"github.com/quorlog/quorlog/kafkaproto"

	"golang.org/x/sys/unix"
)

// haveSendfile tells that sendRange works.
const haveSendfile = true

// sendRange sends a range of a file to the socket inside the kernel. The offset is explicit, because descriptors are
// shared between connections: net.TCPConn.ReadFrom would use, and move, the file's own.
func (o *output) sendRange(r kafkaproto.FileRange) error {
	if err := o.flushMore(); err != nil {
		return err
	}
	raw, err := o.tcp.SyscallConn()
	if err != nil {
		return err
	}
	for offset, end := r.Offset, r.Offset+int64(r.Len); offset < end; {
		if err := o.deadline(); err != nil {
			return err
		}
		before := offset
		var sent error
		err := raw.Write(func(socket uintptr) bool {
			var done bool
			done, sent = sendSome(int(socket), int(r.Fd), &offset, min(end, before+writeStep))
			return done
		})
		o.counts.bytesSendfile.Add(offset - before)
		if err != nil {
			return err
		}
		if sent != nil {
			return sent
		}
	}
	return nil
}

// sendSome sends up to end until it is done, has failed, or the socket takes no more for now: then done is false.
func sendSome(socket, file int, offset *int64, end int64) (done bool, err error) {
	for *offset < end {
		n, err := unix.Sendfile(socket, file, offset, int(end-*offset))
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case err != nil:
			return true, fmt.Errorf("sendfile: %w", err)
		case n == 0:
			return true, fmt.Errorf("%w: nothing at %d, %d expected", errShortRegion, *offset, end-*offset)
		}
	}
	return true, nil
}

// flushMore is flush before a range of a file follows: it tells the kernel to wait for that, so that the few bytes of an
// answer's header do not become a packet of their own.
func (o *output) flushMore() error {
	if o.buf == nil || len(o.vec) > 0 || o.buffered() == 0 {
		return o.flush()
	}
	raw, err := o.tcp.SyscallConn()
	if err != nil {
		return err
	}
	if err := o.deadline(); err != nil {
		return err
	}
	rest := (*o.buf)[o.cut:]
	var sent error
	err = raw.Write(func(socket uintptr) bool {
		for len(rest) > 0 {
			n, err := unix.SendmsgN(int(socket), rest, nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
			switch {
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.EAGAIN):
				return false
			case err != nil:
				sent = fmt.Errorf("sendmsg: %w", err)
				return true
			default:
				rest = rest[n:]
			}
		}
		return true
	})
	if err := errors.Join(err, sent); err != nil {
		return err
	}
	o.cut = len(*o.buf)
	return o.flush() // nothing is left; gives the buffer back
}
