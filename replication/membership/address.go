package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/hashicorp/serf/serf"
)

// Lookup resolves a host name to all its addresses: net.Resolver.LookupIPAddr.
type Lookup func(ctx context.Context, host string) ([]net.IPAddr, error)

func splitAddress(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("membership: %w", err)
	}
	p, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("membership: port of %s: %w", addr, err)
	}
	return host, int(p), nil
}

var errNoAddress = errors.New("the name has no address")

// lookup resolves a name to at least one address.
func (g *Gossip) lookup(ctx context.Context, host string) ([]net.IPAddr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := g.o.Lookup(ctx, host)
	if err == nil && len(ips) == 0 {
		err = errNoAddress
	}
	return ips, err
}

// bound is Options.Bind as memberlist wants it: numbers only.
func (g *Gossip) bound(ctx context.Context) (ip string, port int, err error) {
	host, port, err := splitAddress(g.o.Bind)
	switch {
	case err != nil:
		return "", 0, err
	case host == "":
		return "0.0.0.0", port, nil
	case host == "localhost":
		return "127.0.0.1", port, nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return host, port, nil
	}
	ips, err := g.lookup(ctx, host)
	if err != nil {
		return "", 0, fmt.Errorf("membership: gossip address %s: %w", g.o.Bind, err)
	}
	return ips[0].IP.String(), port, nil
}

// advertised resolves Options.Advertise once: memberlist spreads numbers. A name that resolves to nothing yet, as that of a
// pod that is not ready, or to the loopback interface, as many machines' own names do, leaves the choice to memberlist: the
// address bound to, or this machine's private one.
func (g *Gossip) advertised(ctx context.Context) (ip string, port int, err error) {
	host, port, err := splitAddress(g.o.Advertise)
	if err != nil {
		return "", 0, err
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.String(), port, nil
	}
	ips, err := g.lookup(ctx, host)
	if ctx.Err() != nil {
		return "", 0, fmt.Errorf("membership: advertised address %s: %w", g.o.Advertise, ctx.Err())
	}
	ips = slices.DeleteFunc(ips, func(a net.IPAddr) bool { return a.IP.IsLoopback() })
	if err != nil || len(ips) == 0 {
		g.logger.Warn("the advertised host is no address that other nodes can use; gossip is told under this machine's own", "advertise", g.o.Advertise, "error", err)
		return "", port, nil
	}
	return ips[0].IP.String(), port, nil
}

func gossipAddr(m serf.Member) string {
	return net.JoinHostPort(m.Addr.String(), strconv.Itoa(int(m.Port)))
}
