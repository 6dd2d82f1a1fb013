package replication

import "testing"

func TestNodeAt(t *testing.T) {
	n := Node{ID: 7, Host: "n7", Port: 9092, Rack: "r", Endpoints: []Endpoint{{"INSIDE", "n7", 9092}, {"OUTSIDE", "n7.example.com", 443}}}
	if got, ok := n.At("OUTSIDE"); !ok || got.Host != "n7.example.com" || got.Port != 443 || got.ID != 7 || got.Rack != "r" {
		t.Errorf("%+v, %v", got, ok)
	}
	if got, ok := n.At(""); !ok || got.Host != "n7" || got.Port != 9092 {
		t.Errorf("for nodes: %+v, %v", got, ok)
	}
	if n.Host != "n7" {
		t.Error("the node itself has changed")
	}
	if got, ok := n.At("ELSEWHERE"); ok || got.ID != NoNode || got.Host != "" {
		t.Errorf("%+v, %v", got, ok)
	}
	old := Node{ID: 1, Host: "n1", Port: 1}
	if got, ok := old.At("OUTSIDE"); !ok || !got.Equal(old) {
		t.Errorf("%+v, %v", got, ok)
	}
}

func TestNodeEqual(t *testing.T) {
	n := Node{1, "h", 2, "r", []Endpoint{{"L", "h", 3}}}
	for _, o := range []Node{{}, {2, "h", 2, "r", n.Endpoints}, {1, "h", 2, "r", nil}, {1, "h", 2, "r", []Endpoint{{"L", "h", 4}}}, {1, "h", 2, "", n.Endpoints}} {
		if n.Equal(o) || !n.Equal(n) || !o.Equal(o) {
			t.Errorf("%+v", o)
		}
	}
}
