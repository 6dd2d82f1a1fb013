package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// login is how a client command proves who it is.
type login struct {
	user, passwordFile, mechanism string
}

// maxPasswordFile bounds a file with a password, in bytes.
const maxPasswordFile = 4 << 10

func (l *login) flags(cmd *cobra.Command) {
	env := func(name, def string) string { return cmp.Or(os.Getenv(name), def) }
	f := cmd.PersistentFlags()
	f.StringVar(&l.user, "user", env("QUORLOG_USER", ""), "log in as this user (env QUORLOG_USER)")
	f.StringVar(&l.passwordFile, "password-file", env("QUORLOG_PASSWORD_FILE", ""), "file with the password of --user (env QUORLOG_PASSWORD_FILE)")
	f.StringVar(&l.mechanism, "sasl", env("QUORLOG_SASL_MECHANISM", "SCRAM-SHA-512"), "how --user logs in: SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN (env QUORLOG_SASL_MECHANISM)")
}

// options are those of a client that logs in at brokers, by TLS or not; none without a user.
func (l *login) options(brokers []string, secure bool) ([]kgo.Opt, error) {
	if l.user == "" {
		if l.passwordFile != "" {
			return nil, withCode(exitUsage, errors.New("--password-file needs --user"))
		}
		return nil, nil
	}
	if l.passwordFile == "" {
		return nil, withCode(exitUsage, errors.New("--user needs --password-file"))
	}
	password, err := passwordOf(l.passwordFile)
	if err != nil {
		return nil, withCode(exitUsage, err)
	}
	switch strings.ToUpper(l.mechanism) {
	case "SCRAM-SHA-512":
		return []kgo.Opt{kgo.SASL(scram.Sha512(func(context.Context) (scram.Auth, error) { return scram.Auth{User: l.user, Pass: password}, nil }))}, nil
	case "SCRAM-SHA-256":
		return []kgo.Opt{kgo.SASL(scram.Sha256(func(context.Context) (scram.Auth, error) { return scram.Auth{User: l.user, Pass: password}, nil }))}, nil
	case "PLAIN":
		if !secure && slices.ContainsFunc(brokers, remote) {
			return nil, withCode(exitUsage, errors.New("PLAIN would show the password to whoever listens: use --tls, or SCRAM"))
		}
		return []kgo.Opt{kgo.SASL(plain.Plain(func(context.Context) (plain.Auth, error) { return plain.Auth{User: l.user, Pass: password}, nil }))}, nil
	}
	return nil, withCode(exitUsage, fmt.Errorf("unknown mechanism %q: use SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN", l.mechanism))
}

// remote tells whether an address is, or may be, another machine's.
func remote(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	ip, err := netip.ParseAddr(host)
	return host != "localhost" && (err != nil || !ip.IsLoopback())
}

func passwordOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	password, err := readPassword(f)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return password, nil
}

// readPassword reads one line. What an editor puts behind it is no part of the password.
func readPassword(r io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxPasswordFile+1))
	if err != nil {
		return "", err
	}
	text = bytes.TrimRight(text, "\r\n")
	switch {
	case len(text) == 0:
		return "", errors.New("there is no password in it")
	case len(text) > maxPasswordFile || bytes.ContainsAny(text, "\r\n\x00"):
		return "", fmt.Errorf("a password is one line of at most %d bytes", maxPasswordFile)
	}
	return string(text), nil
}
