package config

import (
	"errors"
	"strings"
)

// The values of the setting authorizer.
const (
	AuthorizerNone   = "none"
	AuthorizerACL    = "acl"
	AuthorizerCasbin = "casbin"
)

// aclRows are about who may do what.
func aclRows() []Setting {
	return []Setting{
		brokerRow("authorizer", String, AuthorizerNone, "none, acl, casbin", "Who decides what clients may do: none lets everybody do everything; acl goes by the rules that quorlog acl and Kafka's tools make, and denies what none allows; casbin goes by the two files below. All nodes must have the same. Quorlog's own; Kafka's is authorizer.class.name.", oneOf(AuthorizerNone, AuthorizerACL, AuthorizerCasbin), false),
		brokerRow("authorizer.casbin.model", String, "", "path", "Model of authorizer=casbin. Quorlog's own.", anything, false),
		brokerRow("authorizer.casbin.policy", String, "", "path", "Policy of authorizer=casbin, as CSV. Quorlog's own.", anything, false),
		brokerRow("super.users", String, "", "User:name;User:CN=name,...", "Who may do everything, whatever the rules say; separated by semicolons.", principals, false),
		brokerRow("allow.everyone.if.no.acl.found", Boolean, "false", "", "With authorizer=acl: whether everybody may do everything to what no rule is about.", boolean, false),
	}
}

// Principals splits a value of super.users.
func Principals(v string) (out []string) {
	for _, p := range strings.Split(v, ";") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

func principals(v string) error {
	for _, p := range Principals(v) {
		if kind, name, ok := strings.Cut(p, ":"); !ok || kind == "" || name == "" {
			return errors.New("expected principals like User:alice, separated by semicolons")
		}
	}
	return nil
}
