package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// nodes is how many nodes every cluster has: all topics and streams have a replica on each.
const nodes = 3

// startPatience bounds a cluster's start; three JVMs on two busy cores need a while.
const startPatience = 2 * time.Minute

// fleet is the running processes of one cluster.
type fleet struct {
	name  string
	dir   string // data, configuration and logs; removed by stop
	addrs []string
	kafka bool // speaks Kafka
	procs []*process
}

// process is one server. Its output is in a file of the fleet's directory.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	mu   struct {
		sync.Mutex
		err error
	}
}

// run starts a server that ends at the latest with this process.
func (f *fleet) run(name string, argv ...string) error {
	out, err := os.Create(filepath.Join(f.dir, name+".log"))
	if err != nil {
		return err
	}
	defer out.Close() // the child has its own
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	f.procs = append(f.procs, p)
	go func() {
		err := p.cmd.Wait()
		p.mu.Lock()
		p.mu.err = err
		p.mu.Unlock()
		close(p.done)
	}()
	return nil
}

// ended tells whether a server has ended by itself, with the end of its log.
func (f *fleet) ended() error {
	for i, p := range f.procs {
		select {
		case <-p.done:
			text, _ := os.ReadFile(filepath.Join(f.dir, fmt.Sprintf("node-%d.log", i+1))) // best effort: it only explains
			p.mu.Lock()
			defer p.mu.Unlock()
			return fmt.Errorf("node %d of %s ended: %v\n%s", i+1, f.name, p.mu.err, text[max(0, len(text)-4096):])
		default:
		}
	}
	return nil
}

// await polls until ready answers nil, a server ends or patience does.
func (f *fleet) await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		if err := f.ended(); err != nil {
			return err
		}
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", f.name, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stop kills the servers and removes their data, then waits until the disk is quiet, so that what one cluster left in
// the page cache isn't written out while the next one is measured.
func (f *fleet) stop() error {
	for _, p := range f.procs {
		_ = p.cmd.Process.Kill() // it may have ended already
		<-p.done
	}
	err := os.RemoveAll(f.dir)
	syscall.Sync()
	return err
}

// admin connects to a cluster that speaks Kafka.
func (f *fleet) admin() (*kadm.Client, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(f.addrs...), kgo.ClientID("quorlog-peers"))
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(cl), nil
}

// brokersUp is ready for clusters that speak Kafka: all nodes know of all nodes.
func (f *fleet) brokersUp(ctx context.Context) error {
	for _, addr := range f.addrs {
		if err := knowsAll(ctx, addr); err != nil {
			return err
		}
	}
	return nil
}

func knowsAll(ctx context.Context, addr string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RequestRetries(0), kgo.RetryTimeout(2*time.Second))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	brokers, err := kadm.NewClient(cl).ListBrokers(ctx)
	if err == nil && len(brokers) != nodes {
		err = fmt.Errorf("%s knows of %d brokers", addr, len(brokers))
	}
	return err
}

// createTopic makes a topic with a replica on each node and waits until all of them are in sync.
func (f *fleet) createTopic(ctx context.Context, name string, partitions int) error {
	adm, err := f.admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	if err := f.await(ctx, func(ctx context.Context) error {
		_, err := adm.CreateTopic(ctx, int32(partitions), nodes, nil, name)
		if errors.Is(err, kerr.TopicAlreadyExists) { // an earlier try has made it, and its answer did not come in time
			return nil
		}
		return err
	}); err != nil {
		return err
	}
	return f.await(ctx, func(ctx context.Context) error {
		topics, err := adm.ListTopics(ctx, name)
		if err != nil {
			return err
		}
		detail := topics[name]
		if detail.Err != nil || len(detail.Partitions) != partitions {
			return errors.Join(detail.Err, fmt.Errorf("%d partitions of %s are there", len(detail.Partitions), name))
		}
		for _, p := range detail.Partitions {
			if p.Err != nil || p.Leader < 0 || len(p.ISR) != nodes {
				return errors.Join(p.Err, fmt.Errorf("partition %d of %s: leader %d, in sync %v", p.Partition, name, p.Leader, p.ISR))
			}
		}
		return nil
	})
}

// freePorts finds ports that nobody else takes, not even while their server is down.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		var err error
		if ports[i], err = testcluster.FreePort(); err != nil {
			return nil, err
		}
	}
	return ports, nil
}

// ask runs a program to its end and returns what it printed; its complaints are in the error.
func ask(ctx context.Context, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("%s: %w\n%s%s", argv[0], err, out, exit.Stderr)
	}
	return out, err
}
