package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorlog/quorlog/internal/certs"
)

// certFlags are what the commands that issue share.
type certFlags struct {
	dir  string
	days int
}

func (f *certFlags) add(cmd *cobra.Command, life time.Duration) *cobra.Command {
	cmd.Flags().StringVar(&f.dir, "dir", ".", "directory of the files")
	cmd.Flags().IntVar(&f.days, "days", int(life/(24*time.Hour)), "days until the certificate ends")
	return cmd
}

// maxDays bounds a certificate's life: a hundred years.
const maxDays = 36500

// issue makes name.crt and name.key, signed by the directory's authority unless they are that.
func (f *certFlags) issue(w io.Writer, q certs.Request, name string) error {
	if f.days < 1 || f.days > maxDays {
		return withCode(exitUsage, fmt.Errorf("--days: expected 1 to %d", maxDays))
	}
	q.Life = time.Duration(f.days) * 24 * time.Hour
	file := func(name string) string { return filepath.Join(f.dir, name) }
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return err
	}
	var by *certs.Authority
	if !q.CA {
		var err error
		if by, err = certs.LoadAuthority(file("ca.crt"), file("ca.key")); err != nil {
			return fmt.Errorf("%w (`quorlog cert ca --dir %s` makes an authority)", err, f.dir)
		}
	}
	if err := certs.Issue(q, by, file(name+".crt"), file(name+".key"), time.Now()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "wrote %s and %s\n", file(name+".crt"), file(name+".key"))
	return err
}

func newCert() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Make certificates for TLS: an authority, nodes, clients",
		Long: `Cert makes certificates by an authority of your own. Keys are ECDSA P-256, which every Kafka client takes; they are
readable by their owner only, and no file is ever overwritten. Keep ca.key away from the nodes: who has it can be any of them.`,
		Example: `  quorlog cert ca --dir certs
  quorlog cert node 1 --dir certs --host broker-1.example.com --host 10.0.0.1
  quorlog cert client alice --dir certs
  quorlog serve --tls-cert certs/node-1.crt --tls-key certs/node-1.key --tls-ca certs/ca.crt --tls-client-auth required
  quorlog topic list --tls-ca certs/ca.crt --tls-cert certs/alice.crt --tls-key certs/alice.key`,
	}
	cmd.AddCommand(newCertCA(), newCertNode(), newCertClient())
	return cmd
}

func newCertCA() *cobra.Command {
	var (
		f    certFlags
		name string
	)
	cmd := &cobra.Command{
		Use: "ca", Short: "Make an authority: ca.crt and ca.key", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.issue(cmd.OutOrStdout(), certs.Request{Name: name, CA: true}, "ca")
		},
	}
	cmd.Flags().StringVar(&name, "name", "Quorlog CA", "common name of the authority")
	return f.add(cmd, certs.AuthorityLife)
}

func newCertNode() *cobra.Command {
	var (
		f     certFlags
		hosts []string
	)
	cmd := &cobra.Command{
		Use: "node ID", Short: "Make a node's certificate: node-ID.crt and node-ID.key",
		Long: `Node makes the certificate by which a node serves clients and proves to other nodes which one it is. Hosts are all names and
addresses under which clients and the node itself reach it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseNode(args[0])
			if err != nil {
				return err
			}
			if len(hosts) == 0 {
				return withCode(exitUsage, errors.New("--host is needed: clients check it"))
			}
			name := fmt.Sprint("node-", id)
			return f.issue(cmd.OutOrStdout(), certs.Request{Name: name, Node: &id, Hosts: hosts}, name)
		},
	}
	cmd.Flags().StringSliceVar(&hosts, "host", nil, "a name or address of the node; may be repeated")
	return f.add(cmd, certs.CertificateLife)
}

func newCertClient() *cobra.Command {
	var f certFlags
	cmd := &cobra.Command{
		Use: "client NAME", Short: "Make a client's certificate: NAME.crt and NAME.key",
		Long: "Client makes a certificate by which a client proves who it is: on listeners with --tls-client-auth it is the principal User:CN=NAME.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if name == "ca" || strings.HasPrefix(name, "node-") || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
				return withCode(exitUsage, fmt.Errorf("%q can't be the name of a client's files", name))
			}
			return f.issue(cmd.OutOrStdout(), certs.Request{Name: name}, name)
		},
	}
	return f.add(cmd, certs.CertificateLife)
}
