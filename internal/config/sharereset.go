package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const byDuration = "by_duration:"

// shareReset accepts the values of share.auto.offset.reset.
func shareReset(s string) error {
	d, ok := strings.CutPrefix(s, byDuration)
	if !ok {
		return oneOf("latest", "earliest")(s)
	}
	_, err := ParseISODuration(d)
	return err
}

// ShareReset is where a share group begins: at the log start, with the records of the last age, or else at the end.
func (l Layers) ShareReset() (earliest bool, age time.Duration) {
	v := l.Get(Group, "share.auto.offset.reset")
	if d, ok := strings.CutPrefix(v, byDuration); ok {
		age, _ = ParseISODuration(d) // it was checked when it was set
	}
	return v == "earliest", age
}

var errISODuration = errors.New("expected a duration like P1D, PT1H30M or PT0.5S")

// ParseISODuration reads a duration of ISO 8601 that is not negative, with days as the largest unit, as Java writes it.
func ParseISODuration(s string) (time.Duration, error) {
	rest, ok := strings.CutPrefix(strings.ToUpper(s), "P")
	if !ok || rest == "" {
		return 0, errISODuration
	}
	days, clock, hasClock := strings.Cut(rest, "T")
	total := 0.0
	var err error
	if total, err = addUnits(total, days, "D", 24*time.Hour); err != nil {
		return 0, err
	}
	if hasClock {
		if clock == "" {
			return 0, errISODuration
		}
		if total, err = addUnits(total, clock, "HMS", time.Hour, time.Minute, time.Second); err != nil {
			return 0, err
		}
	}
	if total > float64(maxLong)/2 {
		return 0, fmt.Errorf("%w: it is too long", errISODuration)
	}
	return time.Duration(total), nil
}

// addUnits adds numbers that are each followed by one of the units, which come in this order.
func addUnits(total float64, s, units string, sizes ...time.Duration) (float64, error) {
	for s != "" {
		i := strings.IndexAny(s, units)
		if i < 0 {
			return 0, errISODuration
		}
		n, err := strconv.ParseFloat(s[:i], 64)
		if err != nil || !(n >= 0) || strings.ContainsAny(s[:i], "EXPINFA_+") {
			return 0, errISODuration
		}
		at := strings.IndexByte(units, s[i])
		total += n * float64(sizes[at])
		s, units, sizes = s[i+1:], units[at+1:], sizes[at+1:]
	}
	return total, nil
}
