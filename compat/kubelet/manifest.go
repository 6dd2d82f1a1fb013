package kubelet

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// The parts of Kubernetes' objects that are looked at here. deploy/helm/test holds the manifests against the real types.
type (
	meta struct {
		Name        string            `yaml:"name"`
		Labels      map[string]string `yaml:"labels"`
		Annotations map[string]string `yaml:"annotations"`
	}
	service struct {
		Metadata meta `yaml:"metadata"`
		Spec     struct {
			Type                     string            `yaml:"type"`
			ClusterIP                string            `yaml:"clusterIP"`
			PublishNotReadyAddresses bool              `yaml:"publishNotReadyAddresses"`
			Selector                 map[string]string `yaml:"selector"`
			Ports                    []servicePort     `yaml:"ports"`
		} `yaml:"spec"`
	}
	servicePort struct {
		Name       string `yaml:"name"`
		Port       int    `yaml:"port"`
		NodePort   int    `yaml:"nodePort"`
		TargetPort string `yaml:"targetPort"`
		Protocol   string `yaml:"protocol"`
	}
	statefulSet struct {
		Metadata meta `yaml:"metadata"`
		Spec     struct {
			Replicas            int    `yaml:"replicas"`
			ServiceName         string `yaml:"serviceName"`
			PodManagementPolicy string `yaml:"podManagementPolicy"`
			Template            struct {
				Metadata meta    `yaml:"metadata"`
				Spec     podSpec `yaml:"spec"`
			} `yaml:"template"`
			VolumeClaimTemplates []struct {
				Metadata meta `yaml:"metadata"`
			} `yaml:"volumeClaimTemplates"`
		} `yaml:"spec"`
	}
	podSpec struct {
		TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
		SecurityContext               struct {
			RunAsUser  uint32 `yaml:"runAsUser"`
			RunAsGroup uint32 `yaml:"runAsGroup"`
			FSGroup    int    `yaml:"fsGroup"`
		} `yaml:"securityContext"`
		Containers []containerSpec `yaml:"containers"`
		Volumes    []volume        `yaml:"volumes"`
	}
	containerSpec struct {
		Command      []string        `yaml:"command"`
		Args         []string        `yaml:"args"`
		Env          []envVar        `yaml:"env"`
		Ports        []containerPort `yaml:"ports"`
		VolumeMounts []volumeMount   `yaml:"volumeMounts"`
		Startup      *probe          `yaml:"startupProbe"`
		Liveness     *probe          `yaml:"livenessProbe"`
		Readiness    *probe          `yaml:"readinessProbe"`
		Lifecycle    struct {
			PreStop struct {
				Exec struct {
					Command []string `yaml:"command"`
				} `yaml:"exec"`
			} `yaml:"preStop"`
		} `yaml:"lifecycle"`
	}
	envVar struct {
		Name      string `yaml:"name"`
		Value     string `yaml:"value"`
		ValueFrom struct {
			FieldRef struct {
				FieldPath string `yaml:"fieldPath"`
			} `yaml:"fieldRef"`
		} `yaml:"valueFrom"`
	}
	containerPort struct {
		Name          string `yaml:"name"`
		ContainerPort int    `yaml:"containerPort"`
	}
	volumeMount struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
	}
	volume struct {
		Name      string `yaml:"name"`
		ConfigMap *struct {
			Name string `yaml:"name"`
		} `yaml:"configMap"`
		Secret *struct {
			SecretName  string `yaml:"secretName"`
			DefaultMode uint32 `yaml:"defaultMode"`
		} `yaml:"secret"`
		EmptyDir *struct{} `yaml:"emptyDir"`
	}
	probe struct {
		HTTPGet struct {
			Path   string `yaml:"path"`
			Port   string `yaml:"port"`
			Scheme string `yaml:"scheme"`
		} `yaml:"httpGet"`
		PeriodSeconds    int `yaml:"periodSeconds"`
		TimeoutSeconds   int `yaml:"timeoutSeconds"`
		FailureThreshold int `yaml:"failureThreshold"`
	}
)

// manifests are a release's objects, as far as something is done with them.
type manifests struct {
	services []service
	set      statefulSet
	files    map[string]map[string][]byte // contents of ConfigMaps and Secrets, by "kind/name" and key
	tests    []podSpec                    // what `helm test` runs
}

// errManifest: the chart has rendered something that this kubelet does not know.
var errManifest = errors.New("kubelet: unknown object")

// parse reads what `helm template` prints.
func parse(text []byte) (*manifests, error) {
	m := &manifests{files: map[string]map[string][]byte{}}
	for docs := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var doc yaml.Node
		err := docs.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err == nil {
			err = m.add(&doc)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (m *manifests) add(doc *yaml.Node) error {
	var head struct {
		Kind       string            `yaml:"kind"`
		Metadata   meta              `yaml:"metadata"`
		Data       map[string]string `yaml:"data"`
		Spec       yaml.Node         `yaml:"spec"`
		APIVersion string            `yaml:"apiVersion"`
	}
	if err := doc.Decode(&head); err != nil {
		return err
	}
	switch head.Kind {
	case "Service":
		var s service
		if err := doc.Decode(&s); err != nil {
			return err
		}
		m.services = append(m.services, s)
	case "StatefulSet":
		return doc.Decode(&m.set)
	case "ConfigMap":
		for key, value := range head.Data {
			m.put("ConfigMap", head.Metadata.Name, key, []byte(value))
		}
	case "Secret":
		for key, value := range head.Data {
			plain, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				return fmt.Errorf("secret %s, %s: %w", head.Metadata.Name, key, err)
			}
			m.put("Secret", head.Metadata.Name, key, plain)
		}
	case "Pod":
		var p podSpec
		if err := head.Spec.Decode(&p); err != nil {
			return err
		}
		m.tests = append(m.tests, p)
	case "PodDisruptionBudget", "ServiceAccount", "":
	default:
		return fmt.Errorf("%w: %s %s", errManifest, head.APIVersion, head.Kind)
	}
	return nil
}

func (m *manifests) put(kind, name, key string, contents []byte) {
	of := kind + "/" + name
	if m.files[of] == nil {
		m.files[of] = map[string][]byte{}
	}
	m.files[of][key] = contents
}

// port is the number of a container's port by its name.
func (c *containerSpec) port(name string) (int, error) {
	for _, p := range c.Ports {
		if p.Name == name {
			return p.ContainerPort, nil
		}
	}
	return 0, fmt.Errorf("%w: no port is called %s", errManifest, name)
}
