// Package certs holds what a node needs for TLS: its certificate and the authorities that it trusts, read from PEM files and
// read again when they change ([Keeper]); who a client's certificate says that it is ([Mapping]); which node a certificate was
// made for ([NodeOf]); and an authority of our own that issues such certificates ([Issue]).
//
// # Peers and clients
//
// Nodes and clients come in on the same port. A node offers the application protocol [PeerProtocol] (ALPN) when it dials, and
// both sides then demand a certificate that names a node (a URI, urn:quorlog:node:1) and that the node's own authorities have
// signed. What else is to be trusted, the cluster's key proves (replication/transport). A connection without that protocol is a
// client's, whatever certificate it has.
//
// Session tickets are off: a session that goes on would keep what an authority vouched for that has been taken out since.
// Connections of Kafka clients are few and long, so a full handshake each costs little.
//
// # Goroutines
//
//	Run    the caller's; reads the files again and again; ends with its context
package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// PeerProtocol is the application protocol (ALPN, RFC 7301) of connections between nodes.
const PeerProtocol = "quorlog-peer/1"

const (
	// lookInterval is how often files are compared with what was read: they are small, and whoever replaces a certificate wants
	// to see it in use within a second. It takes two looks: see look.
	lookInterval = 400 * time.Millisecond
	// maxFile bounds a file, in bytes: a bundle of all public authorities has 250 KiB.
	maxFile = 4 << 20
	// expirySoon is how long before its end a certificate is warned about, when it is read and every remindInterval.
	expirySoon     = 14 * 24 * time.Hour
	remindInterval = 24 * time.Hour
	// forOthers are the bits of a file's mode that a private key must not have. The group may read: what a container or a service
	// manager hands to a process belongs to root and to the group of the process.
	forOthers = 0o027
)

// ErrNoNode: a certificate is not one of a node.
var ErrNoNode = errors.New("certs: the certificate names no node")

// ClientAuth says what clients must show (Kafka's ssl.client.auth).
type ClientAuth string

// The values of ClientAuth.
const (
	NoClientAuth        ClientAuth = "none"      // no certificate is asked for
	RequestedClientAuth ClientAuth = "requested" // one is asked for; a client without is anonymous, one that does not verify is refused
	RequiredClientAuth  ClientAuth = "required"
)

// Files are the paths of a node's PEM files.
type Files struct {
	Cert string // the certificate, and those of the authorities between it and the root
	Key  string // its private key; may be the same file
	CA   string // the authorities that clients and peers are verified against; empty: none can be
}

// Keeper holds what the files say. All methods may be called from any goroutine.
type Keeper struct {
	files    Files
	logger   *slog.Logger
	now      func() time.Time
	held     atomic.Pointer[generation]
	last     reading   // Run's, as are the rest
	judged   reading   // what was taken over, or refused
	reminded time.Time // when the certificate's end was last told
}

// reading is what the files held at a moment, or why that can't be told.
type reading struct {
	cert, key, ca []byte
	keyMode       fs.FileMode
	err           error
}

func (r *reading) same(o *reading) bool {
	return bytes.Equal(r.cert, o.cert) && bytes.Equal(r.key, o.key) && bytes.Equal(r.ca, o.ca) && fmt.Sprint(r.err) == fmt.Sprint(o.err)
}

// generation is one reading of the files, which never changes.
type generation struct {
	pair    tls.Certificate
	ends    time.Time // when the first certificate between this node and the root does
	pool    *x509.CertPool
	clients map[ClientAuth]configs
	peers   *tls.Config
}

// configs are for clients that name no application protocol, as those of Kafka, and for those that do.
type configs struct{ bare, named *tls.Config }

// Open reads the files. An error names the file, and the line where there is one.
func Open(files Files, logger *slog.Logger) (*Keeper, error) {
	k := &Keeper{files: files, logger: logger, now: time.Now}
	k.judged = k.read()
	g, err := k.parse(&k.judged)
	if err != nil {
		return nil, err
	}
	k.last = k.judged
	k.hold(g, k.judged.keyMode)
	return k, nil
}

// Run reads the files again and again until ctx ends, and takes over what has changed. Connections that there are go on; new
// ones have the new certificate. If the new files can't be used, that is logged once, and the old certificate stays.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			k.look()
			k.remind()
		}
	}
}

// NotAfter is when the certificate in use ends, or one between it and the root, if that is sooner.
func (k *Keeper) NotAfter() time.Time { return k.held.Load().ends }

// look takes over what has changed since the last look but one: a file that is being written may end where a whole one could, and
// then lack authorities. A pair of files of which only one is replaced does not fit together; that is tried again when the other
// one has changed, too.
func (k *Keeper) look() {
	now := k.read()
	moved := !now.same(&k.last)
	k.last = now
	if moved || now.same(&k.judged) {
		return
	}
	k.judged = now
	g, err := k.parse(&now)
	if err != nil {
		k.logger.Error("the new TLS files can't be used; the old certificate stays", "error", err)
		return
	}
	k.hold(g, now.keyMode)
	k.logger.Info("the TLS files have changed and are in use", "cert", k.files.Cert, "not_after", g.ends)
}

func (k *Keeper) hold(g *generation, keyMode fs.FileMode) {
	k.held.Store(g)
	k.reminded = time.Time{}
	k.remind()
	if keyMode&forOthers != 0 {
		k.logger.Warn("others than the owner and its group may use the private key (chmod 640)", "key", k.files.Key, "mode", fmt.Sprintf("%04o", keyMode))
	}
}

// remind tells from time to time that the certificate's end is near.
func (k *Keeper) remind() {
	now, ends := k.now(), k.NotAfter()
	switch {
	case ends.Sub(now) >= expirySoon || now.Sub(k.reminded) < remindInterval:
		return
	case now.Before(ends):
		k.logger.Warn("the TLS certificate ends soon", "cert", k.files.Cert, "not_after", ends)
	default:
		k.logger.Error("the TLS certificate has ended: clients and nodes refuse it", "cert", k.files.Cert, "not_after", ends)
	}
	k.reminded = now
}

func (k *Keeper) read() (r reading) {
	var modes [3]fs.FileMode
	for i, f := range []struct {
		path string
		to   *[]byte
	}{{k.files.Cert, &r.cert}, {k.files.CA, &r.ca}, {k.files.Key, &r.key}} {
		if f.path == "" {
			continue
		}
		var err error
		if *f.to, modes[i], err = readFile(f.path); err != nil {
			return reading{err: err}
		}
	}
	r.keyMode = modes[2]
	return r
}

func readFile(path string) ([]byte, fs.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("TLS: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("TLS: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("TLS: %w", err)
	}
	return data, info.Mode().Perm(), nil
}

// parse makes what is served of what was read.
func (k *Keeper) parse(r *reading) (*generation, error) {
	if r.err != nil {
		return nil, r.err
	}
	chain, err := parseCertificates(k.files.Cert, r.cert)
	if err != nil {
		return nil, err
	}
	// A pool without authorities believes nobody; none at all would mean those of the operating system.
	g := &generation{ends: chain[0].NotAfter, pool: x509.NewCertPool(), clients: map[ClientAuth]configs{}}
	for _, c := range chain[1:] {
		if c.NotAfter.Before(g.ends) {
			g.ends = c.NotAfter
		}
	}
	if g.pair, err = pairOf(k.files, chain, r); err != nil {
		return nil, err
	}
	if k.files.CA != "" {
		authorities, err := parseCertificates(k.files.CA, r.ca)
		if err != nil {
			return nil, err
		}
		for _, ca := range authorities {
			g.pool.AddCert(ca)
		}
	}
	for auth, kind := range map[ClientAuth]tls.ClientAuthType{
		NoClientAuth: tls.NoClientCert, RequestedClientAuth: tls.VerifyClientCertIfGiven, RequiredClientAuth: tls.RequireAndVerifyClientCert,
	} {
		g.clients[auth] = configs{bare: g.config(tls.VersionTLS12, kind), named: g.config(tls.VersionTLS12, kind, applicationProtocols...)}
	}
	g.peers = g.config(peerVersion, tls.RequireAndVerifyClientCert, PeerProtocol)
	g.peers.VerifyConnection = func(s tls.ConnectionState) error {
		_, err := NodeOf(s)
		return err
	}
	return g, nil
}

// peerVersion is the oldest version of TLS that nodes speak with each other: both sides are this program.
const peerVersion = tls.VersionTLS13

// applicationProtocols are what a client may choose from, the best first. Kafka clients name none. HTTP/2 is for gRPC alone, whose
// clients offer nothing else; who offers both, as browsers, curl and Prometheus do, wants pages, which are served by HTTP/1.1.
var applicationProtocols = []string{"http/1.1", "h2"}

func (g *generation) config(oldest uint16, auth tls.ClientAuthType, protocols ...string) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{g.pair}, ClientAuth: auth, ClientCAs: g.pool, MinVersion: oldest, NextProtos: protocols,
		SessionTicketsDisabled: true,
	}
}

// Server is the configuration of a listener. With peers, nodes may come in on it.
func (k *Keeper) Server(auth ClientAuth, peers bool) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		g := k.held.Load()
		switch {
		case peers && slices.Contains(h.SupportedProtos, PeerProtocol):
			return g.peers, nil
		case slices.ContainsFunc(h.SupportedProtos, func(p string) bool { return slices.Contains(applicationProtocols, p) }):
			return g.clients[auth].named, nil
		}
		return g.clients[auth].bare, nil // a protocol that nobody here knows is no reason to refuse a client that needs none
	}}
}

// Peers is the configuration of a listener on which only nodes come in by TLS.
func (k *Keeper) Peers() *tls.Config {
	return &tls.Config{MinVersion: peerVersion, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return k.held.Load().peers, nil
	}}
}

// DialPeer makes a connection to another node safe. The other side must have a node's certificate; which node, NodeOf tells.
// The name or address that was dialled does not matter: pods change theirs.
func (k *Keeper) DialPeer(ctx context.Context, nc net.Conn) (*tls.Conn, error) {
	g := k.held.Load()
	c := tls.Client(nc, &tls.Config{
		Certificates: []tls.Certificate{g.pair}, MinVersion: peerVersion, NextProtos: []string{PeerProtocol},
		InsecureSkipVerify: true, // VerifyConnection does it, for a node instead of a host name
		VerifyConnection: func(s tls.ConnectionState) error {
			if err := g.verifyServer(s, k.now()); err != nil {
				return err
			}
			_, err := NodeOf(s)
			return err
		},
	})
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

func (g *generation) verifyServer(s tls.ConnectionState, now time.Time) error {
	if len(s.PeerCertificates) == 0 {
		return ErrNoNode
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: g.pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}
