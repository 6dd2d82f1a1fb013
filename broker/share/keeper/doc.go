// Package keeper keeps the durable state of share-partitions in __share_group_state: Kafka's share coordinator (KIP-932).
//
// A share-partition's key hashes to a partition of the topic; the node that leads it keeps the state. Who needs it is the leader
// of the topic's partition, on another node perhaps: Client finds the keeper and asks again until the answer is known, which
// is safe because each request may be executed twice.
//
//	Client       asks the keeper of a key, wherever it is        client.go, together.go
//	Service      answers on the node that keeps the key          service.go
//	  Machine    one key: fencing, and one write at a time       machine.go
//	    Record   the state in Kafka's schema                     record.go
//
// Each write is the whole state (a ShareSnapshot), never a difference (ShareUpdate): the newest record of a key is all there is
// to know, and the topic is compacted like any other. Two epochs fence. A leader epoch below the last one seen is an old leader's.
// The state epoch grows when somebody sets the start offset; a leader that does not know of it has to read again.
//
// Goroutines: Service.sweepLoop, woken by a ticker, ended by Service.Close. Client.AskAll asks side by side and waits for the answers.
// Those of package coordinator run the machines.
package keeper
