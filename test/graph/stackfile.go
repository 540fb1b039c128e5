package graph

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"ephemos.dev/deploy/stacks"
)

// StackConfig reads the configuration of a stack as the Pulumi CLI hands it to
// the program: what Pulumi.<stack>.yaml in dir sets, under full keys. Encrypted
// values become a mask.
func StackConfig(dir, stack string) (map[string]string, error) {
	content, err := os.ReadFile(filepath.Join(dir, "Pulumi."+stack+".yaml"))
	if err != nil {
		return nil, err
	}
	var file struct {
		Config map[string]any `json:"config"`
	}
	if err := yaml.Unmarshal(content, &file); err != nil {
		return nil, fmt.Errorf("Pulumi.%s.yaml: %w", stack, err)
	}
	config := map[string]string{}
	for key, value := range file.Config {
		if !strings.Contains(key, ":") {
			key = Project + ":" + key
		}
		switch v := value.(type) {
		case string:
			config[key] = v
		case map[string]any:
			if _, secure := v["secure"]; secure && len(v) == 1 {
				config[key] = maskSecret
				continue
			}
			config[key] = asJSON(v)
		default:
			config[key] = asJSON(v)
		}
	}
	return config, nil
}

func asJSON(v any) string {
	content, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(content)
}

// Configuration is what a stack's file configures, with placeholders for what it leaves to the machine that deploys: a kubeconfig or,
// on AWS, the CAs of its databases, which are read and not used, and a registry for the images that have no public one. dir is the
// root of the repository.
func Configuration(dir, stack string) (map[string]string, error) {
	file, err := StackConfig(dir, stack)
	if err != nil {
		return nil, err
	}
	testdata := filepath.Join(dir, "test", "graph", "testdata")
	config := map[string]string{Project + ":imageRegistry": "registry.example.com/ephemos"}
	if file[Project+":platform"] == stacks.PlatformAWS {
		config[Project+":databaseCAFile"] = filepath.Join(testdata, "database-ca.pem")
	} else {
		config[Project+":kubeconfig"] = filepath.Join(testdata, "kubeconfig.yaml")
	}
	maps.Copy(config, file)
	return config, nil
}
