package certs

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net/url"
	"testing"
)

func parseURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestDistinguishedName(t *testing.T) {
	type pair struct {
		oid   asn1.ObjectIdentifier
		value any
	}
	cn, o, c := asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.ObjectIdentifier{2, 5, 4, 10}, asn1.ObjectIdentifier{2, 5, 4, 6}
	mail, dc := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}
	for _, test := range []struct {
		names [][]pair
		want  string
	}{
		{nil, ""},
		{[][]pair{{{c, "US"}}, {{o, "Sun Microsystems"}}, {{cn, "duke"}}}, "CN=duke,O=Sun Microsystems,C=US"},
		{[][]pair{{{dc, "com"}}, {{dc, "example"}}, {{cn, "a"}, {o, "b"}}}, "CN=a+O=b,DC=example,DC=com"},
		{[][]pair{{{o, `Sue, Grabbit+Runn "x" <y>;z\ a=b#c`}}}, `O=Sue\, Grabbit\+Runn \"x\" \<y\>\;z\\ a\=b\#c`},
		{[][]pair{{{cn, "  two  spaces "}}}, `CN=\ \ two  spaces\ `},
		{[][]pair{{{cn, "Лука"}}}, "CN=Лука"},
		{[][]pair{{{cn, "nul\x00l"}}}, `CN=nul\00l`},
		{[][]pair{{{mail, "a@b"}}}, "1.2.840.113549.1.9.1=#0c03614062"},
		{[][]pair{{{cn, 5}}}, "CN=#020105"},
	} {
		var seq pkix.RDNSequence
		for _, set := range test.names {
			var rdn pkix.RelativeDistinguishedNameSET
			for _, p := range set {
				rdn = append(rdn, pkix.AttributeTypeAndValue{Type: p.oid, Value: p.value})
			}
			seq = append(seq, rdn)
		}
		raw, err := asn1.Marshal(seq)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DistinguishedName(&x509.Certificate{RawSubject: raw})
		if err != nil || got != test.want {
			t.Errorf("%v: %s, %v; want %s", test.names, got, err, test.want)
		}
	}
	for _, raw := range [][]byte{nil, {0x30}, {0x30, 0}, {0x30, 0, 0}, {0x31, 0}} {
		if got, err := DistinguishedName(&x509.Certificate{RawSubject: raw}); (err == nil) != (len(raw) == 2 && raw[0] == 0x30) {
			t.Errorf("%x: %q, %v", raw, got, err)
		}
	}
}

// The examples of KIP-371 and of Kafka's documentation, and its rules for groups that are not there.
func TestMapping(t *testing.T) {
	const dn = "CN=Duke,OU=ServiceUsers,O=Org,C=US"
	for rules, want := range map[string]string{
		"":                                      dn,
		"DEFAULT":                               dn,
		"RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/": "Duke",
		"RULE:^CN=(.*?),OU=ServiceUsers.*$/$1@$2/":            "Duke@$2",
		"RULE:^CN=(.*?),OU=(.*?),O=(.*?),C=(.*?)$/$1@$2/L":    "duke@serviceusers",
		"RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/U":            "DUKE",
		"RULE:CN=nobody/x/, RULE:^CN=(.*?),.*$/$1/L ,DEFAULT": "duke",
		"RULE:nothing/x/,DEFAULT":                             dn,
		"RULE:CN=(.*?),.*/$12/":                               "Duke2",
		"RULE:CN=(.*?),.*/$0!/":                               dn + "!",
		`RULE:CN=(.*?),.*/a\$1\/b/`:                           "a$1/b",
		"RULE:.*/const/":                                      "const",
		"RULE:(.)(.)(.)(.)(.)(.)(.)(.)(.)(.).*/$10$1/":        "UC",
		"RULE:Duke/never matches a part of it/,RULE:^CN=([^,]+),OU=([^,]+),.*$/$2-$1/,RULE:broken later//": "ServiceUsers-Duke",
	} {
		m, err := ParseMapping(rules)
		if err != nil {
			t.Errorf("%s: %v", rules, err)
			continue
		}
		if got, err := m.Name(dn); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", rules, got, err, want)
		}
	}
	m, err := ParseMapping("RULE:CN=(nobody)/$1/")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Name(dn); !errors.Is(err, ErrNoRule) {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{
		"default", "RULE:", "RULE:a", "RULE:a/b", "RULE:(/b/", "RULE:a/b/X", "RULE:a/b/LU", "DEFAULTS", "DEFAULT DEFAULT",
		`RULE:a\/b/`, "RULE:(?=look)/b/", "RULE:CN=nobody)|(?:.*/admin/",
	} {
		if _, err := ParseMapping(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzMapping(f *testing.F) {
	f.Add("RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/L,DEFAULT", "CN=a,OU=ServiceUsers")
	f.Fuzz(func(t *testing.T, rules, dn string) {
		if m, err := ParseMapping(rules); err == nil {
			_, _ = m.Name(dn)
		}
	})
}

func FuzzDistinguishedName(f *testing.F) {
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _ = DistinguishedName(&x509.Certificate{RawSubject: raw})
	})
}
