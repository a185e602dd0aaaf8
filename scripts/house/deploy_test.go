package house

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/otpost/otpost/pkg/telemetry"
)

const deploy = "../../deploy"

// TestDeployedSettingsExist holds the manifests to the command: each variable that a container is given is one that its role reads.
func TestDeployedSettingsExist(t *testing.T) {
	otpost := filepath.Join(t.TempDir(), "otpost")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", otpost, "../../services/otpost")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build has it, so that what that has compiled serves here too
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	roles := 0
	for _, manifest := range manifests(t) {
		for _, c := range containers(manifest) {
			if c.Image != "otpost" {
				continue
			}
			roles++
			help, err := exec.CommandContext(t.Context(), otpost, c.Args[0], "--help").Output()
			if err != nil {
				t.Fatalf("otpost %s --help: %v", c.Args[0], err)
			}
			given := map[string]bool{}
			for _, e := range c.Env {
				setting := strings.TrimSuffix(e.Name, "_FILE")
				given[setting] = true
				if !regexp.MustCompile(`\b` + setting + `\b`).Match(help) {
					t.Errorf("%s: otpost %s reads no %s", c.Name, c.Args[0], e.Name)
				}
			}
			for _, required := range regexp.MustCompile(`required;\s+(OTPOST_[A-Z_]+)`).FindAllSubmatch(help, -1) {
				if !given[string(required[1])] {
					t.Errorf("%s: otpost %s requires %s, which is not given", c.Name, c.Args[0], required[1])
				}
			}
		}
	}
	if roles != 8 {
		t.Errorf("%d containers of otpost in the manifests, want those of 7 workers and of migrate", roles)
	}
}

// A container is what the test needs of a Kubernetes container.
type container struct {
	Name, Image string
	Args        []string
	Env         []struct{ Name string }
}

func containers(m map[string]any) []container {
	text, err := yaml.Marshal(m)
	if err != nil {
		return nil
	}
	var workload struct {
		Spec struct {
			Template struct {
				Spec struct{ Containers []container }
			}
		}
	}
	if yaml.Unmarshal(text, &workload) != nil {
		return nil
	}
	return workload.Spec.Template.Spec.Containers
}

// manifests parses every document of deploy/kubernetes.
func manifests(t *testing.T) []map[string]any {
	t.Helper()
	files, err := filepath.Glob(deploy + "/kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	var all []map[string]any
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var m map[string]any
			if err := d.Decode(&m); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			if m["kind"] == nil || m["apiVersion"] == nil {
				t.Errorf("%s: a document without kind or apiVersion", f)
			}
			all = append(all, m)
		}
	}
	return all
}

// TestAlertsAreOnMetricsThatExist holds the alerts to what processes export: an alert on a metric of another name is silent for ever.
func TestAlertsAreOnMetricsThatExist(t *testing.T) {
	text, err := os.ReadFile(deploy + "/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	exported := metrics()
	alerts := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			alerts++
			names := regexp.MustCompile(`otpost_[a-z_]+`).FindAllString(r.Expr, -1)
			if len(names) == 0 {
				t.Errorf("%s is on no metric of otpost", r.Alert)
			}
			for _, name := range names {
				if !exported[strings.TrimSuffix(name, "_bucket")] {
					t.Errorf("%s is on %s, which no process exports", r.Alert, name)
				}
			}
		}
	}
	if alerts == 0 {
		t.Error("no alerts")
	}
}

// metrics are the names of all metrics of otpost's own, those included that have no values yet.
func metrics() map[string]bool {
	names := map[string]bool{"otpost_build_info": true}
	telemetry.NewMetrics(registerer{names})
	return names
}

// A registerer only learns the names of what is registered with it.
type registerer struct{ names map[string]bool }

var fqName = regexp.MustCompile(`fqName: "([^"]+)"`)

func (r registerer) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 64)
	c.Describe(descs)
	close(descs)
	for d := range descs {
		if m := fqName.FindStringSubmatch(d.String()); m != nil {
			r.names[m[1]] = true
		}
	}
	return nil
}

func (r registerer) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		_ = r.Register(c)
	}
}

func (r registerer) Unregister(prometheus.Collector) bool { return false }
