package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

func integer(low, high int64) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseInt(s, 10, 64)
		switch {
		case err != nil:
			return errors.New("not a number")
		case n < low:
			return fmt.Errorf("value must be at least %d", low)
		case n > high:
			return fmt.Errorf("value must be no more than %d", high)
		}
		return nil
	}
}

func optional(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

func boolean(s string) error {
	if s != "true" && s != "false" {
		return errors.New("expected true or false")
	}
	return nil
}

func fraction(s string) error {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f <= 1) { // not a number is neither
		return errors.New("expected a number from 0 to 1")
	}
	return nil
}

// positive accepts numbers of at least 1.
func positive(s string) error {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 1) { // not a number is neither
		return errors.New("expected a number of at least 1")
	}
	return nil
}

// hostNames checks names without ports: such as example.com, .example.com for all below it, or * for any.
func hostNames(s string) error {
	for _, name := range Elements(s) {
		label := func(r rune) bool {
			return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.'
		}
		if name != "*" && (strings.Trim(name, ".") == "" || strings.ContainsFunc(name, func(r rune) bool { return !label(r) })) {
			return fmt.Errorf("%q: expected a name, without a port", name)
		}
	}
	return nil
}

func oneOf(allowed ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(allowed, s) {
			return fmt.Errorf("expected one of %s", strings.Join(allowed, ", "))
		}
		return nil
	}
}

// eachOf checks a comma-separated list.
func eachOf(allowed ...string) func(string) error {
	return func(s string) error {
		for _, part := range Elements(s) {
			if err := oneOf(allowed...)(part); err != nil {
				return err
			}
		}
		if len(Elements(s)) == 0 {
			return fmt.Errorf("expected at least one of %s", strings.Join(allowed, ", "))
		}
		return nil
	}
}

// never accepts only one value, and says why the other is not possible.
func never(only, why string) func(string) error {
	return func(s string) error {
		if s != only {
			return errors.New(why)
		}
		return nil
	}
}

func anything(string) error { return nil }

// Elements splits a value of type List.
func Elements(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
