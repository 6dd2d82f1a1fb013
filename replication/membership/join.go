package membership

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// joinPause and joinPauseMax are the pauses between attempts that failed; they double in between.
	joinPause    = 500 * time.Millisecond
	joinPauseMax = 10 * time.Second
	// checkPause is how often it is looked whether all that Options.Join names is joined: a name may have got new addresses,
	// and two halves of a cluster that were apart for long must find each other again.
	checkPause = 30 * time.Second
	// lookupTimeout bounds the resolving of one name.
	lookupTimeout = 5 * time.Second
	// quietAttempts is how many attempts fail before it is worth more than a line for developers: nodes start at the same time.
	quietAttempts = 5
)

// join keeps joining what Options.Join names, for ever: a name that resolves to nothing today may do so tomorrow.
func (g *Gossip) join() {
	if len(g.o.Join) == 0 {
		return
	}
	first := orElse(g.o.JoinPause, joinPause)
	for pause, failed := first, 0; ; {
		wait := orElse(g.o.CheckPause, checkPause)
		if err := g.joinMissing(g.ctx); err != nil {
			failed++
			if failed == quietAttempts || failed%(10*quietAttempts) == 0 {
				g.logger.Warn("nobody of --join answers: a node is not up yet, the port is not that of its gossip, or its cluster key is another",
					"join", g.o.Join, "attempts", failed, "error", oneLine(err))
			}
			wait, pause = jittered(pause), min(2*pause, joinPauseMax)
		} else {
			pause, failed = first, 0
		}
		select {
		case <-g.ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// oneLine is an error's text without the line breaks and bullets of Serf's lists.
func oneLine(err error) string { return strings.Join(strings.Fields(fmt.Sprint(err)), " ") }

func orElse(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// jittered keeps nodes that started together from trying together.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// joinMissing joins the addresses that no live member has. It fails only while this node is alone: then it is worth trying soon.
func (g *Gossip) joinMissing(ctx context.Context) error {
	var problems []error
	for _, target := range g.o.Join {
		addrs, err := g.resolve(ctx, target)
		problems = append(problems, err)
		for _, addr := range addrs {
			if ctx.Err() != nil {
				return nil
			}
			if g.isMember(addr) {
				continue
			}
			_, err := g.serf.Load().Join([]string{addr}, true)
			problems = append(problems, err)
		}
	}
	if g.alone() {
		return errors.Join(append(problems, errAlone)...)
	}
	return nil
}

var errAlone = errors.New("membership: no other node is known")

// resolve gives all addresses of a name, in a random order: with many nodes not all should ask the same first.
func (g *Gossip) resolve(ctx context.Context, target string) ([]string, error) {
	host, port, err := splitAddress(target)
	if err != nil {
		return nil, err
	}
	number := strconv.Itoa(port)
	if ip, err := netip.ParseAddr(host); err == nil {
		return []string{net.JoinHostPort(ip.Unmap().String(), number)}, nil
	}
	ips, err := g.lookup(ctx, host)
	out := make([]string, 0, len(ips))
	for _, ip := range ips {
		addr := ip.IP.String()
		if ip.Zone != "" && strings.Contains(addr, ":") {
			addr += "%" + ip.Zone
		}
		out = append(out, net.JoinHostPort(addr, number))
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out, err
}

// isMember tells whether a live member, or this node, has the address.
func (g *Gossip) isMember(addr string) bool {
	return slices.ContainsFunc(g.Members(), func(m Member) bool { return m.Status == Alive && m.Gossip == addr })
}

func (g *Gossip) alone() bool {
	return !slices.ContainsFunc(g.Members(), func(m Member) bool { return m.Status == Alive && m.Node != g.o.Node })
}
