package kadm

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// private are the fields that differ between any two clusters, or between two moments of one: addresses, ids that are drawn,
// times, who leads what.
var private = []string{
	"Host", "Port", "Rack", "Cluster", "TopicID", "ID", "LeaderEpoch", "CoordinatorEpoch", "Timestamp", "LastTimestamp", "StartTimestamp",
	"NodeID", "Node", "Broker", "Coordinator", "Controller", "Leader", "ISR", "Replicas", "OfflineReplicas", "ProducerID", "ClientID",
	"ClientHost", "MemberID", "Size", "Dir", "TotalBytes", "UsableBytes", "ErrMessage", "Message", "Brokers", "raw", "TimeoutMillis",
}

// canonical is a result of kadm as one line: names and values of all fields but the private ones, errors as Kafka's names.
func canonical(v any) string {
	var b strings.Builder
	write(&b, reflect.ValueOf(v))
	return b.String()
}

var errorType = reflect.TypeFor[error]()

func write(b *strings.Builder, v reflect.Value) {
	if !v.IsValid() {
		b.WriteString("-")
		return
	}
	if v.Type().Implements(errorType) && v.CanInterface() {
		if v.Kind() == reflect.Interface && v.IsNil() {
			b.WriteString("ok")
			return
		}
		b.WriteString(code(v.Interface().(error)))
		return
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		write(b, v.Elem())
	case reflect.Struct:
		writeStruct(b, v)
	case reflect.Map:
		writeMap(b, v)
	case reflect.Slice, reflect.Array:
		writeList(b, v)
	default:
		fmt.Fprint(b, v)
	}
}

func writeStruct(b *strings.Builder, v reflect.Value) {
	if _, ok := v.Interface().(time.Time); ok {
		b.WriteString("a time")
		return
	}
	b.WriteString("{")
	sep := ""
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && !slices.Contains(private, f.Name) {
			b.WriteString(sep + f.Name + ":")
			write(b, v.Field(i))
			sep = " "
		}
	}
	b.WriteString("}")
}

func writeMap(b *strings.Builder, v reflect.Value) {
	var entries []string
	for _, k := range v.MapKeys() {
		var e strings.Builder
		if k.Kind() != reflect.Array { // topic ids are drawn
			write(&e, k)
		}
		e.WriteString("=")
		write(&e, v.MapIndex(k))
		entries = append(entries, e.String())
	}
	slices.Sort(entries)
	b.WriteString("[" + strings.Join(entries, " ") + "]")
}

func writeList(b *strings.Builder, v reflect.Value) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		fmt.Fprintf(b, "%q", v.Bytes())
		return
	}
	var entries []string
	for i := range v.Len() {
		var e strings.Builder
		write(&e, v.Index(i))
		entries = append(entries, e.String())
	}
	slices.Sort(entries)
	b.WriteString("[" + strings.Join(entries, " ") + "]")
}

// code is an error in Kafka's words.
func code(err error) string {
	var answered *kerr.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &answered):
		return answered.Message
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer"
	}
	return "not sent: " + err.Error()
}
