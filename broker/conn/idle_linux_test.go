package conn

import (
	"net"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// maxIdleMemory is what an idle connection may take of our memory, measured without what the kernel holds.
const maxIdleMemory = 16 << 10

// Thousands of clients that connect, ask something and fall silent must cost little.
func TestIdleConnections(t *testing.T) {
	count := 5_000
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	const others = 200
	if most := int(files.Cur)/2 - others; most < count || testing.Short() {
		count = min(most, 500)
	}
	h := onTCP(t, dispatcher(echo), Options{Limits: Limits{MaxConnectionsPerIP: count, AcceptRate: 1 << 20}})
	before := memoryInUse()
	for range count {
		askAndFallSilent(t, h.addr)
	}
	for h.Stats().Requests[metadata] < int64(count) {
		runtime.Gosched()
	}
	after := memoryInUse()
	each := (after - before) / int64(count)
	t.Logf("%d idle connections take %d bytes each", h.Stats().Connections, each)
	if each > maxIdleMemory {
		t.Errorf("%d bytes for each idle connection", each)
	}
	if n := h.Stats().Connections; n != int64(count) {
		t.Errorf("%d connections", n)
	}
	c := h.dial(t)
	c.send(metadata, 1, "refused: one too many")
	c.expectClosed()
}

// askAndFallSilent opens a connection without any memory of Go's, sends a request and reads the answer.
func askAndFallSilent(t *testing.T, addr string) {
	t.Helper()
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: tcp.Port, Addr: [4]byte(tcp.IP.To4())}); err != nil {
		t.Fatal(err)
	}
	request := frame(metadata, 1, "hello")
	if _, err := unix.Write(fd, request); err != nil {
		t.Fatal(err)
	}
	var answer [13]byte
	for got := 0; got < len(answer); {
		n, err := unix.Read(fd, answer[got:])
		if err != nil || n == 0 {
			t.Fatalf("%d bytes, %v", n, err)
		}
		got += n
	}
}

// memoryInUse returns heap and stacks after a collection; two, because pools are emptied in the second.
func memoryInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
