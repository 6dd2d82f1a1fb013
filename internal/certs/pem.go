package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// FileError is a file that can't be used. Line is 0 where the trouble is in no one place.
type FileError struct {
	File string
	Line int
	Err  error
}

// Error names the place and the trouble.
func (e *FileError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("TLS: %s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("TLS: %s:%d: %v", e.File, e.Line, e.Err)
}

// Unwrap returns the trouble.
func (e *FileError) Unwrap() error { return e.Err }

const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY"
)

var pemBegin = []byte("-----BEGIN ")

// block is a PEM block with the line on which it begins.
type block struct {
	*pem.Block
	line int
}

// blocks are the PEM blocks of a file. Text between them is allowed; a block that is damaged is not passed over in silence, as
// package pem does: a bundle of authorities would lack one.
func blocks(file string, data []byte) (out []block, err error) {
	line := func(rest []byte) int { return 1 + bytes.Count(data[:len(data)-len(rest)], []byte("\n")) }
	rest := data
	for {
		at := bytes.Index(rest, pemBegin)
		if at < 0 {
			return out, nil
		}
		rest = rest[at:]
		begins := line(rest)
		// Only up to the next block: package pem would go on to that one if this is damaged.
		end := len(rest)
		if next := bytes.Index(rest[len(pemBegin):], pemBegin); next >= 0 {
			end = len(pemBegin) + next
		}
		b, _ := pem.Decode(rest[:end])
		if b == nil {
			return nil, &FileError{file, begins, errors.New("a damaged PEM block")}
		}
		out = append(out, block{b, begins})
		rest = rest[end:]
	}
}

// parseCertificates reads the certificates of a file, at least one.
func parseCertificates(file string, data []byte) ([]*x509.Certificate, error) {
	all, err := blocks(file, data)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for _, b := range all {
		if b.Type != certificateBlock {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, &FileError{file, b.line, err}
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, &FileError{file, 0, errors.New("holds no certificate in PEM form")}
	}
	return out, nil
}

// pairOf puts a certificate and its key together, and refuses those that do not belong together.
func pairOf(files Files, chain []*x509.Certificate, r *reading) (tls.Certificate, error) {
	keys, err := blocks(files.Key, r.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	for _, b := range keys {
		if b.Type != keyBlock && b.Type != "EC PRIVATE KEY" && b.Type != "RSA PRIVATE KEY" {
			continue
		}
		pair, err := tls.X509KeyPair(r.cert, pem.EncodeToMemory(b.Block))
		if err != nil {
			return tls.Certificate{}, &FileError{files.Key, b.line, fmt.Errorf("with %s: %w", files.Cert, err)}
		}
		pair.Leaf = chain[0]
		return pair, nil
	}
	for _, b := range keys {
		if b.Type == "ENCRYPTED PRIVATE KEY" {
			return tls.Certificate{}, &FileError{files.Key, b.line, errors.New("the private key is encrypted with a password; it must not be")}
		}
	}
	return tls.Certificate{}, &FileError{files.Key, 0, errors.New("holds no private key in PEM form")}
}
