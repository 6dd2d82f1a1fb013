package txn

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/replication"
)

// TestAPartitionThatTheCoordinatorDoesNotKnow: a broker may be written to at a topic of which the coordinator has not heard yet.
// What it does not know is not part of a transaction, because it could not be told from what was deleted; a moment later it may be.
func TestAPartitionThatTheCoordinatorDoesNotKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.calm = true
		s := w.coordinator()
		c := &client{world: w, name: "client", id: "id", version: V2}
		c.begin()
		add := func(verify bool) AddRequest {
			return AddRequest{ID: c.id, Identity: c.who, Partitions: []Partition{{"t", 0}, {"new", 1}}, Version: V2, VerifyOnly: verify}
		}
		if each, err := s.AddPartitions(t.Context(), add(false)); !errors.Is(err, replication.ErrUnknownPartition) {
			t.Errorf("added: %v, %v", each, err)
		}
		began := time.Now()
		if each, err := s.Join(t.Context(), add(false)); !errors.Is(err, replication.ErrUnknownPartition) || time.Since(began) != joinPatience {
			t.Errorf("after %v: %v, %v", time.Since(began), each, err)
		}
		if m, err := s.Describe(c.id); err != nil || m.State != Empty {
			t.Errorf("%+v, %v", m, err)
		}
		time.AfterFunc(joinPatience/2, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.topics["new"] = 2
		})
		if each, err := s.Join(t.Context(), add(false)); err != nil || errors.Join(each...) != nil {
			t.Errorf("once it is known: %v, %v", each, err)
		}
		w.mu.Lock()
		delete(w.topics, "new")
		w.mu.Unlock()
		if each, err := s.AddPartitions(t.Context(), add(true)); err != nil || errors.Join(each...) != nil {
			t.Errorf("what is part of it stays: %v, %v", each, err)
		}
		s.Close()
		w.late.Wait()
		if err := w.manager.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestLimitsOf(t *testing.T) {
	got, err := LimitsOf(map[string]string{
		"transaction.max.timeout.ms": "5", "transactional.id.expiration.ms": "7", SettingMaxIDs: "9", "log.segment.bytes": "1",
	})
	want := DefaultLimits()
	want.MaxTimeout, want.Expiration, want.MaxIDs = 5*time.Millisecond, 7*time.Millisecond, 9
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, v := range []string{"0", "-1", "many", "3000000000", ""} {
		if _, err := LimitsOf(map[string]string{SettingMaxIDs: v}); err == nil {
			t.Errorf("%q is taken", v)
		}
	}
	if s, ok := config.Lookup(config.Broker, SettingMaxIDs); !ok || s.Default != fmt.Sprint(DefaultLimits().MaxIDs) {
		t.Errorf("the registry says %+v", s)
	}
}

// TestMoreIDsThanThereMayBe: above the setting new ids are turned away, and those that are known go on.
func TestMoreIDsThanThereMayBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.calm = true
		w.coordinator().Close()
		w.limits.MaxIDs = 2
		w.lead()
		s := w.coordinator()
		begin := func(id string) error {
			_, err := s.InitProducerID(t.Context(), InitRequest{ID: id, Timeout: worldTimeout, Expected: noIdentity})
			return err
		}
		for _, id := range []string{"a", "b"} {
			if err := w.retry(func() error { return begin(id) }); err != nil {
				t.Fatal(id, err)
			}
		}
		if err := begin("c"); !errors.Is(err, broker.ErrCoordinatorNotAvailable) {
			t.Errorf("a third: %v", err)
		}
		if err := begin("a"); err != nil {
			t.Errorf("one of the two: %v", err)
		}
		s.Close()
		w.late.Wait()
		if err := w.manager.Close(); err != nil {
			t.Error(err)
		}
	})
}
