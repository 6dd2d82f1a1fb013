package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

// clientTLS is how a client command protects its connections.
type clientTLS struct {
	on            bool
	ca, cert, key string
}

func (t *clientTLS) flags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.BoolVar(&t.on, "tls", false, "connect by TLS; implied by the flags that begin with tls-")
	flags.StringVar(&t.ca, "tls-ca", "", "PEM file with the authorities to believe; default: the system's")
	flags.StringVar(&t.cert, "tls-cert", "", "PEM file with the client's certificate")
	flags.StringVar(&t.key, "tls-key", "", "PEM file with its private key")
}

// options are what the flags mean for a client of Kafka's protocol.
func (t *clientTLS) options() ([]kgo.Opt, error) {
	c, err := t.config()
	if err != nil || c == nil {
		return nil, err
	}
	return []kgo.Opt{kgo.DialTLSConfig(c)}, nil
}

// config is what the flags mean; nil: no TLS.
func (t *clientTLS) config() (*tls.Config, error) {
	if !t.on && t.ca == "" && t.cert == "" && t.key == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.ca != "" {
		pem, err := os.ReadFile(t.ca)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--tls-ca: %s holds no certificate in PEM form", t.ca)
		}
	}
	if (t.cert == "") != (t.key == "") {
		return nil, errors.New("--tls-cert and --tls-key go together")
	}
	if t.cert != "" {
		pair, err := tls.LoadX509KeyPair(t.cert, t.key)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
