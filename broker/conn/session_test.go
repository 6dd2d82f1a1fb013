package conn

import (
	"net"
	"net/netip"
	"testing"

	"github.com/quorlog/quorlog/broker"
)

func TestSession(t *testing.T) {
	local, remote := netip.MustParseAddrPort("10.0.0.1:9092"), netip.MustParseAddrPort("10.0.0.2:5000")
	s := NewSession(SessionInfo{ID: 7, Listener: "INTERNAL", Local: local, Remote: remote})
	if s.ID() != 7 || s.Listener() != "INTERNAL" || s.Local() != local || s.Remote() != remote {
		t.Errorf("%+v", s)
	}
	want := broker.Caller{Principal: broker.Anonymous, ClientID: "app", Host: remote.Addr(), Listener: "INTERNAL"}
	if got := s.Caller("app"); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	s.SetPrincipal("User:alice")
	s.SetSoftware("librdkafka", "2.15.0")
	want.Principal, want.Software, want.ClientID = "User:alice", "librdkafka/2.15.0", ""
	if got := s.Caller(""); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	s.SetSoftware("sarama", "")
	if got := s.Caller("").Software; got != "sarama" {
		t.Error(got)
	}
	if s.State() != nil {
		t.Error("a state before it was set")
	}
	s.SetState("half way")
	if s.State() != "half way" {
		t.Error(s.State())
	}
}

func TestAddrPort(t *testing.T) {
	mapped := &net.TCPAddr{IP: net.ParseIP("::ffff:10.0.0.1"), Port: 5}
	if got := addrPort(mapped); got != netip.MustParseAddrPort("10.0.0.1:5") {
		t.Error(got)
	}
	if got := addrPort(&net.UnixAddr{Name: "x"}); got.IsValid() {
		t.Error(got)
	}
}
