package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// addressLetters are what may stand in a value that an address is made of. Whoever sets the environment of a node must not be
// able to add a listener, or to take TLS from one, by what is only to be a name.
const addressLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]"

// expand fills in what is only known where the node runs, so that all nodes can be started with the same settings:
//
//	{node-id}           the node's id
//	{31000+node-id}     a number that is higher by as much, for ports
//	{env:NAME}          the environment variable NAME; an IPv6 address is put into brackets
//
// A brace is no part of any address, so there is nothing to escape.
func (n *Node) expand(text string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "{")
		out.WriteString(before)
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", fmt.Errorf("%s: a brace is not closed", text)
		}
		value, err := n.variable(name)
		if err != nil {
			return "", fmt.Errorf("{%s}: %w", name, err)
		}
		out.WriteString(value)
		text = after
	}
	return out.String(), nil
}

func (n *Node) variable(name string) (string, error) {
	if env, ok := strings.CutPrefix(name, "env:"); ok {
		return n.addressFrom(env)
	}
	base, ok := strings.CutSuffix(name, "node-id")
	number, plus := strings.CutSuffix(base, "+")
	if !ok || plus != (base != "") {
		return "", errors.New("unknown variable; there are {node-id}, {NUMBER+node-id} and {env:NAME}")
	}
	if !plus {
		return strconv.Itoa(int(n.NodeID)), nil
	}
	offset, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return "", fmt.Errorf("%q is no number", number)
	}
	return strconv.FormatUint(offset+uint64(n.NodeID), 10), nil
}

func (n *Node) addressFrom(name string) (string, error) {
	value := n.env[name]
	if value == "" {
		return "", fmt.Errorf("the environment variable %s is not set", name)
	}
	if strings.Trim(value, addressLetters) != "" {
		return "", fmt.Errorf("the environment variable %s, %q, has characters that no address has", name, value)
	}
	if ip, err := netip.ParseAddr(value); err == nil && ip.Is6() {
		return "[" + value + "]", nil
	}
	return value, nil
}

// environ is an environment as os.Environ gives it, by names.
func environ(list []string) map[string]string {
	out := make(map[string]string, len(list))
	for _, pair := range list {
		name, value, _ := strings.Cut(pair, "=")
		out[name] = value
	}
	return out
}

// expanded has a setting's value filled in before it is checked and kept.
func expanded(keep func(n *Node, v string) error) func(*Node, string) error {
	return func(n *Node, v string) error {
		v, err := n.expand(v)
		if err != nil {
			return err
		}
		return keep(n, v)
	}
}
