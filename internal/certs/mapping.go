package certs

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// ErrNoRule: no rule of a Mapping applies to a name.
var ErrNoRule = errors.New("certs: no rule of ssl.principal.mapping.rules applies")

// Mapping makes a principal's name of a distinguished name, by Kafka's ssl.principal.mapping.rules (KIP-371): the first rule that
// applies decides.
//
// A rule is DEFAULT, the distinguished name as it is, or RULE:pattern/replacement/ with L or U behind it for lower or upper case.
// The pattern must match the whole name; $1 in the replacement is its first group. Patterns are Go's (RE2), which lack Java's
// look-around and back-references.
type Mapping struct{ rules []rule }

type rule struct {
	pattern     *regexp.Regexp // nil for DEFAULT
	replacement string         // in Go's form
	fold        func(string) string
}

// maxRules bounds, in bytes, what is parsed as rules.
const maxRules = 64 << 10

// ParseMapping reads rules, comma-separated. Empty text is DEFAULT.
func ParseMapping(text string) (*Mapping, error) {
	if len(text) > maxRules {
		return nil, fmt.Errorf("ssl.principal.mapping.rules: longer than %d bytes", maxRules)
	}
	m := &Mapping{}
	rest := strings.TrimSpace(text)
	for rest != "" {
		r, after, err := parseRule(rest)
		if err != nil {
			return nil, fmt.Errorf("ssl.principal.mapping.rules: %q: %w", rest, err)
		}
		m.rules = append(m.rules, r)
		after = strings.TrimSpace(after)
		if after != "" && after[0] != ',' {
			return nil, fmt.Errorf("ssl.principal.mapping.rules: expected a comma before %q", after)
		}
		rest = strings.TrimSpace(strings.TrimPrefix(after, ","))
	}
	if len(m.rules) == 0 {
		m.rules = []rule{{fold: same}}
	}
	return m, nil
}

func same(s string) string { return s }

// parseRule reads the first rule of a text.
func parseRule(text string) (r rule, rest string, err error) {
	if rest, ok := strings.CutPrefix(text, "DEFAULT"); ok {
		return rule{fold: same}, rest, nil
	}
	rest, ok := strings.CutPrefix(text, "RULE:")
	if !ok {
		return r, "", errors.New("expected DEFAULT or RULE:pattern/replacement/")
	}
	pattern, rest, ok := cutSlash(rest)
	if !ok {
		return r, "", errors.New("the pattern does not end with a slash")
	}
	replacement, rest, ok := cutSlash(rest)
	if !ok {
		return r, "", errors.New("the replacement does not end with a slash")
	}
	if _, err := regexp.Compile(pattern); err != nil { // before there are brackets around it, which its own could close
		return r, "", err
	}
	r.pattern, err = regexp.Compile("^(?:" + pattern + ")$")
	if err != nil {
		return r, "", err
	}
	r.replacement, r.fold = goTemplate(replacement, r.pattern.NumSubexp()), same
	switch {
	case strings.HasPrefix(rest, "L"):
		r.fold, rest = strings.ToLower, rest[1:]
	case strings.HasPrefix(rest, "U"):
		r.fold, rest = strings.ToUpper, rest[1:]
	}
	return r, rest, nil
}

// cutSlash cuts at the first slash that no backslash stands before.
func cutSlash(s string) (before, after string, ok bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '/':
			return s[:i], s[i+1:], true
		}
	}
	return "", "", false
}

// goTemplate turns Java's replacement into Go's: $12 is the twelfth group, or the first and then 2 if there are fewer; one of a
// group that is not there stands for itself; a backslash takes the next character as it is.
func goTemplate(s string, groups int) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			literal(&b, s[i])
		case s[i] == '$' && i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9':
			n, end := int(s[i+1]-'0'), i+2
			for end < len(s) && s[end] >= '0' && s[end] <= '9' && n*10+int(s[end]-'0') <= groups {
				n = n*10 + int(s[end]-'0')
				end++
			}
			if n > groups {
				literal(&b, '$')
				continue
			}
			fmt.Fprintf(&b, "${%d}", n)
			i = end - 1
		default:
			literal(&b, s[i])
		}
	}
	return b.String()
}

func literal(b *strings.Builder, c byte) {
	if c == '$' {
		b.WriteByte('$')
	}
	b.WriteByte(c)
}

// Name is the principal's name for a distinguished name, without "User:". The error is ErrNoRule if no rule applies.
func (m *Mapping) Name(dn string) (string, error) {
	for _, r := range m.rules {
		if r.pattern == nil {
			return dn, nil
		}
		if at := r.pattern.FindStringSubmatchIndex(dn); at != nil {
			return r.fold(string(r.pattern.ExpandString(nil, r.replacement, dn, at))), nil
		}
	}
	return "", fmt.Errorf("%w to %q", ErrNoRule, dn)
}
