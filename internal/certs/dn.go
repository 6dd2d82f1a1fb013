package certs

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"
)

// keywords are the attribute types that RFC 2253 has names for. Java, and so Kafka, writes all others as numbers.
var keywords = map[string]string{
	"2.5.4.3": "CN", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.6": "C", "2.5.4.9": "STREET",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
}

// attribute is an attribute of a name with its value as it was encoded.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

type attributesSET []attribute // the suffix tells asn1 what it is

// DistinguishedName is a certificate's subject in the form of RFC 2253 in which Kafka names clients, such as
// "CN=client,OU=Users,O=Example". A value without text form, or of a type without a name, is the hexadecimal of its encoding.
func DistinguishedName(c *x509.Certificate) (string, error) {
	var names []attributesSET
	if rest, err := asn1.Unmarshal(c.RawSubject, &names); err != nil || len(rest) > 0 {
		return "", fmt.Errorf("certs: the subject can't be read: %w", err)
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		for j, a := range names[i] {
			if j > 0 {
				b.WriteByte('+')
			}
			writeAttribute(&b, a)
		}
	}
	return b.String(), nil
}

func writeAttribute(b *strings.Builder, a attribute) {
	name, named := keywords[a.Type.String()]
	text, ok := textOf(a.Value)
	if !named || !ok {
		if !named {
			name = a.Type.String()
		}
		b.WriteString(name + "=#" + hex.EncodeToString(a.Value.FullBytes))
		return
	}
	b.WriteString(name + "=")
	writeEscaped(b, text)
}

// textOf decodes a value of one of the types of text.
func textOf(v asn1.RawValue) (string, bool) {
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagT61String, asn1.TagBMPString, asn1.TagGeneralString:
	default:
		return "", false
	}
	var value any
	if _, err := asn1.Unmarshal(v.FullBytes, &value); err != nil {
		return "", false
	}
	text, ok := value.(string)
	return text, ok
}

// writeEscaped escapes what has a meaning in a name, and spaces at both ends.
func writeEscaped(b *strings.Builder, text string) {
	runes := []rune(text)
	first, last := 0, len(runes)-1
	for first <= last && runes[first] == ' ' {
		first++
	}
	for last >= first && runes[last] == ' ' {
		last--
	}
	for i, r := range runes {
		switch {
		case r == 0:
			b.WriteString(`\00`)
			continue
		case strings.ContainsRune(`,=+<>#;"\`, r), r == ' ' && (i < first || i > last):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
}
