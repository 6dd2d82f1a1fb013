package transport

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/quorlog/quorlog/replication"
)

// The handshake. D dialled, A accepted:
//
//	D -> A   preface 4 | length 2 | hello: lane 1, node 4, wanted node 4, directory 16, nonce 32, cluster, version
//	A -> D   preface 4 | length 2 | hello
//	D -> A   HMAC-SHA256 32
//	A -> D   0 | HMAC-SHA256 32, or: 1 | length 2 | why not
//
// The key of the MACs is derived from the cluster's. Each covers a word for the side that makes it and both hellos with
// their nonces, so nothing can be replayed, reflected, or passed on with another name. D proves itself first: who has no key
// gets nothing to try keys on.
const (
	protocolVersion = 1
	handshakeTime   = 5 * time.Second
	dialTime        = 2 * time.Second
	nonceLength     = 32
	macLength       = sha256.Size
	maxHello        = 1 << 10
	maxRefusal      = 512
	maxLabel        = 128 // bytes of a cluster id or version
	keyLabel        = "quorlog peers 1"
)

var preface = [4]byte{Magic, 'Q', 'P', protocolVersion}

// Reasons why a connection is refused; the texts go to both logs.
var (
	errKey       = errors.New("the cluster key differs")
	errPreface   = errors.New("it does not speak the peers' protocol, or another version of it")
	errCluster   = errors.New("it belongs to another cluster")
	errNoCluster = errors.New("one of the two nodes belongs to no cluster yet")
	errWrongNode = errors.New("another node answers at this address")
	errOurs      = errors.New("it has this node's id")
	errDirectory = errors.New("a node with this id and another data directory is connected")
	errCrowded   = errors.New("too many connections are being made")
	errNoCert    = errors.New("it has no certificate of a node")
	errCert      = errors.New("it has the certificate of another node")
)

// hello is what a side says about itself.
type hello struct {
	lane   lane
	wanted replication.NodeID // whom D means to reach; NoNode if it does not know
	nonce  [nonceLength]byte
	info   PeerInfo
}

func (h *hello) encode() []byte {
	b := append([]byte(nil), preface[:]...)
	b = append(b, 0, 0, byte(h.lane))
	b = binary.BigEndian.AppendUint32(b, uint32(h.info.Node))
	b = binary.BigEndian.AppendUint32(b, uint32(h.wanted))
	b = append(append(b, h.info.Directory[:]...), h.nonce[:]...)
	b = appendBlob(appendBlob(b, h.info.Cluster), h.info.Version)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-6))
	return b
}

// readHello reads the other side's hello; raw is what was read.
func readHello(r io.Reader) (h hello, raw []byte, err error) {
	raw = make([]byte, 6, maxHello)
	if _, err := io.ReadFull(r, raw); err != nil {
		return h, nil, err
	}
	if [4]byte(raw) != preface {
		return h, nil, errPreface
	}
	n := int(binary.BigEndian.Uint16(raw[4:]))
	if n > maxHello-6 {
		return h, nil, errPreface
	}
	raw = raw[:6+n]
	if _, err := io.ReadFull(r, raw[6:]); err != nil {
		return h, nil, err
	}
	p := parser{b: raw[6:]}
	h.lane = lane(p.byte())
	if b := p.take(8); b != nil {
		h.info.Node = replication.NodeID(binary.BigEndian.Uint32(b))
		h.wanted = replication.NodeID(binary.BigEndian.Uint32(b[4:]))
	}
	copy(h.info.Directory[:], p.take(uint64(len(h.info.Directory))))
	copy(h.nonce[:], p.take(nonceLength))
	h.info.Cluster, h.info.Version = p.text(maxLabel), p.text(maxLabel)
	if p.end(0) != nil || h.lane > laneCall {
		return h, nil, errPreface
	}
	return h, raw, nil
}

// prove is the MAC of one side ("dialled" or "accepted") over both hellos.
func prove(key []byte, side string, dialled, accepted []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(side))
	m.Write(dialled)
	m.Write(accepted)
	return m.Sum(nil)
}

// deriveKey makes the key for this purpose from the cluster's.
func deriveKey(key []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(keyLabel))
	return m.Sum(nil)
}

// us is this node's hello.
func (p *Peers) us(l lane, wanted replication.NodeID) hello {
	h := hello{lane: l, wanted: wanted, info: p.self()}
	rand.Read(h.nonce[:]) // never fails (crypto/rand)
	return h
}

// self is this node as its peers see it.
func (p *Peers) self() PeerInfo {
	return PeerInfo{Node: p.o.Node, Directory: p.o.Directory, Cluster: p.o.Cluster(), Version: p.o.Version}
}

// greet is the handshake of the side that dialled.
func (p *Peers) greet(nc net.Conn, r *bufio.Reader, l lane, wanted replication.NodeID) (PeerInfo, error) {
	if err := nc.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return PeerInfo{}, err
	}
	mine := p.us(l, wanted)
	said := mine.encode()
	if _, err := nc.Write(said); err != nil {
		return PeerInfo{}, err
	}
	theirs, heard, err := readHello(r)
	if err != nil {
		return PeerInfo{}, err
	}
	theirs.info.Addr = nc.RemoteAddr().String()
	if _, err := nc.Write(prove(p.key, "dialled", said, heard)); err != nil {
		return theirs.info, err
	}
	verdict, err := r.ReadByte()
	if err != nil {
		return theirs.info, err
	}
	if verdict != 0 {
		return theirs.info, readRefusal(r)
	}
	proof := make([]byte, macLength)
	if _, err := io.ReadFull(r, proof); err != nil {
		return theirs.info, err
	}
	if !hmac.Equal(proof, prove(p.key, "accepted", said, heard)) {
		return theirs.info, fmt.Errorf("%w: %w", ErrRefused, errKey)
	}
	if err := errors.Join(p.judge(mine, theirs, false), p.o.certified(nc, theirs.info.Node)); err != nil {
		return theirs.info, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return theirs.info, nc.SetDeadline(time.Time{})
}

// readRefusal reads why the other side refuses. It has proven nothing, so its words are cleaned and bounded.
func readRefusal(r io.Reader) error {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return err
	}
	text := make([]byte, min(binary.BigEndian.Uint16(n[:]), maxRefusal))
	if _, err := io.ReadFull(r, text); err != nil {
		return err
	}
	clean := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, string(text))
	return fmt.Errorf("%w, the other side says: %s", ErrRefused, clean)
}

// receive is the handshake of the side that accepted. It returns who dialled, as far as it is known, and what for.
func (p *Peers) receive(nc net.Conn, r *bufio.Reader) (PeerInfo, lane, error) {
	theirs, heard, err := readHello(r)
	if err != nil {
		return PeerInfo{}, 0, err
	}
	theirs.info.Addr = nc.RemoteAddr().String()
	mine := p.us(theirs.lane, replication.NoNode)
	said := mine.encode()
	if _, err := nc.Write(said); err != nil {
		return theirs.info, theirs.lane, err
	}
	proof := make([]byte, macLength)
	if _, err := io.ReadFull(r, proof); err != nil {
		return theirs.info, theirs.lane, err
	}
	err = errKey
	if hmac.Equal(proof, prove(p.key, "dialled", heard, said)) {
		err = errors.Join(p.o.certified(nc, theirs.info.Node), p.judge(mine, theirs, true))
	}
	if err != nil {
		return theirs.info, theirs.lane, errors.Join(err, refuse(nc, err))
	}
	_, err = nc.Write(append([]byte{0}, prove(p.key, "accepted", heard, said)...))
	return theirs.info, theirs.lane, err
}

// refuse tells the other side why.
func refuse(w io.Writer, why error) error {
	text := why.Error()
	text = text[:min(len(text), maxRefusal)]
	b := binary.BigEndian.AppendUint16([]byte{1}, uint16(len(text)))
	_, err := w.Write(append(b, text...))
	return err
}

// certified holds the node that a peer says it is against its certificate.
func (o *PeersOptions) certified(nc net.Conn, says replication.NodeID) error {
	if o.Certified == nil {
		return nil
	}
	switch is, ok := o.Certified(nc); {
	case !ok:
		return errNoCert
	case is != says && is != replication.NoNode:
		return fmt.Errorf("%w: of %d, and says that it is %d", errCert, is, says)
	}
	return nil
}

// judge decides about a peer that has proven the key.
func (p *Peers) judge(mine, theirs hello, accepting bool) error {
	ours, other := mine.info.Cluster, theirs.info.Cluster
	if ours != other && ours != "" && other != "" {
		return fmt.Errorf("%w: %q and %q", errCluster, ours, other)
	}
	wanted, is := mine.wanted, theirs.info.Node
	if accepting {
		wanted, is = theirs.wanted, mine.info.Node
	}
	if wanted != replication.NoNode && wanted != is {
		return fmt.Errorf("%w: it is node %d, wanted was %d", errWrongNode, is, wanted)
	}
	if mine.lane == laneCall {
		return nil // its handlers judge; who has no cluster may only join
	}
	switch {
	case ours == "" || other == "":
		return errNoCluster
	case theirs.info.Node == p.o.Node:
		return fmt.Errorf("%w: %d", errOurs, p.o.Node)
	}
	if err := p.doppelganger(theirs.info); err != nil {
		return err
	}
	if p.o.Admit != nil {
		return p.o.Admit(theirs.info)
	}
	return nil
}

// dial opens a connection and proves both sides.
func (p *Peers) dial(ctx context.Context, addr string, l lane, wanted replication.NodeID) (*stream, PeerInfo, error) {
	if len(p.o.Key) == 0 {
		return nil, PeerInfo{}, fmt.Errorf("%w: this node has no cluster key", ErrUnreachable)
	}
	p.stats.dials.Add(1)
	dialing, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	nc, err := p.o.Dial(dialing, addr)
	if err != nil {
		return nil, PeerInfo{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	r := bufio.NewReaderSize(nc, readBuffer)
	info, err := p.greet(nc, r, l, wanted)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close()
		return nil, info, err
	}
	return newStream(p, nc, r, l), info, nil
}

// readBuffer is what a connection reads at once. Larger messages are read to where they stay.
const readBuffer = 64 << 10
