package config

import (
	"testing"
	"time"
)

func TestISODuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"P1D": 24 * time.Hour, "PT1H": time.Hour, "PT1H30M": 90 * time.Minute, "pt0.5s": time.Second / 2, "P2DT3S": 48*time.Hour + 3*time.Second,
		"PT0S": 0,
	} {
		if got, err := ParseISODuration(s); err != nil || got != want {
			t.Errorf("%s is %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "P", "PT", "1D", "P1", "PT1", "P-1D", "PT1S1H", "P1DT", "PTS", "PT1H1H", "P1e9D", "PT1e3S", "P999999999999D", "PInfD"} {
		if got, err := ParseISODuration(s); err == nil {
			t.Errorf("%s is %v", s, got)
		}
	}
}

func TestShareReset(t *testing.T) {
	for value, want := range map[string]struct {
		earliest bool
		age      time.Duration
	}{"": {}, "latest": {}, "earliest": {earliest: true}, "by_duration:PT1H": {age: time.Hour}, "by_duration:x": {}, "none": {}} {
		l := Layers{Group: map[string]string{"share.auto.offset.reset": value}}
		if earliest, age := l.ShareReset(); earliest != want.earliest || age != want.age {
			t.Errorf("%q: %v, %v", value, earliest, age)
		}
	}
}
