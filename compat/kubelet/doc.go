// Package kubelet runs what the Helm chart renders without a Kubernetes: a poor man's kubelet. Each pod gets a network namespace
// with an address of its own, the image's files as its root, its environment, volumes, user, probes and preStop hook as they are
// written in the manifests; Services are small proxies, and names stand in a hosts file. What it runs is the real binary, so it
// proves addresses, certificates, users, the drain and the rolling restart of the chart itself.
//
// It is less than Kubernetes in what the binary can't notice: there is no scheduler, no API server, no cgroup, and a pod may see the
// machine's processes.
//
// Goroutines: two for each connection through a Service, and one for each port of a Service, which accepts; all end with the test.
// One for each container reads what it prints; it ends with the container.
package kubelet
