package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// Lifetimes of what is issued where nothing else is asked for.
const (
	AuthorityLife   = 10 * 365 * 24 * time.Hour
	CertificateLife = 365 * 24 * time.Hour
)

// clockSkew is how far before now a certificate begins: clocks differ.
const clockSkew = 5 * time.Minute

// Request says what to issue.
type Request struct {
	Name  string        // the common name
	Hosts []string      // names and addresses that a node is reached by
	Node  *int32        // the node that it is for; nil for a client
	CA    bool          // an authority
	Life  time.Duration // 0: AuthorityLife or CertificateLife
}

// Authority signs certificates.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// LoadAuthority reads an authority that was issued with Request.CA.
func LoadAuthority(certFile, keyFile string) (*Authority, error) {
	files := Files{Cert: certFile, Key: keyFile}
	r := (&Keeper{files: files}).read()
	if r.err != nil {
		return nil, r.err
	}
	chain, err := parseCertificates(certFile, r.cert)
	if err != nil {
		return nil, err
	}
	pair, err := pairOf(files, chain, &r)
	if err != nil {
		return nil, err
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, &FileError{certFile, 1, errors.New("not the certificate of an authority")}
	}
	return &Authority{pair.Leaf, signer}, nil
}

// Issue makes a key (ECDSA P-256, which every client takes) and a certificate for it, and writes both. by is nil for an authority
// that signs itself. The key can be read by its owner only. Files that exist are never overwritten (fs.ErrExist), and if one can't be
// written neither stays.
func Issue(q Request, by *Authority, certFile, keyFile string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template, err := q.template(now)
	if err != nil {
		return err
	}
	signer := &Authority{template, key}
	if by != nil {
		signer = by
		if template.NotAfter.After(by.cert.NotAfter) {
			template.NotAfter = by.cert.NotAfter // it would not be believed for longer
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.cert, &key.PublicKey, signer.key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key) // the form that Java reads
	if err != nil {
		return err
	}
	if err := writeNew(keyFile, 0o600, keyBlock, private); err != nil {
		return err
	}
	if err := writeNew(certFile, 0o644, certificateBlock, der); err != nil {
		return errors.Join(err, os.Remove(keyFile))
	}
	return nil
}

func (q Request) template(now time.Time) (*x509.Certificate, error) {
	life := q.Life
	switch {
	case life > 0:
	case q.CA:
		life = AuthorityLife
	default:
		life = CertificateLife
	}
	if q.Name == "" {
		return nil, errors.New("certs: a certificate needs a name")
	}
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: q.Name}, NotBefore: now.Add(-clockSkew), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	switch {
	case q.CA:
		t.IsCA, t.MaxPathLenZero, t.ExtKeyUsage = true, true, nil
		t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	case q.Node != nil:
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		t.URIs = []*url.URL{nodeURI(*q.Node)}
	}
	for _, h := range q.Hosts {
		ip := net.ParseIP(h)
		switch {
		case ip != nil:
			t.IPAddresses = append(t.IPAddresses, ip)
		case h == "" || strings.ContainsAny(h, ":/ ,"): // such as host:port, which no client would look for
			return nil, fmt.Errorf("certs: %q is neither a host name nor an address", h)
		default:
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return t, nil
}

// writeNew writes a file that is not there yet.
func writeNew(path string, mode os.FileMode, kind string, der []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("%w (nothing is overwritten)", err)
	}
	err = errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Sync(), f.Close())
	if err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}
