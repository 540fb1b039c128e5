package corpus

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Recordings returns what client libraries of public APIs sent while their own tests ran: linodego (Linode) and
// scaleway-sdk-go (Scaleway), whose modules carry the recordings of go-vcr. The modules are fetched with the go command,
// through the module cache, and verified against the checksums in folder/go.sum.
func Recordings(ctx context.Context, folder string) ([]Case, error) {
	var cases []Case
	for _, module := range []string{"github.com/linode/linodego", "github.com/scaleway/scaleway-sdk-go"} {
		dir, err := download(ctx, folder, module)
		if err != nil {
			return nil, err
		}
		found, err := recordingsOf(ctx, dir, filepath.Base(module))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", module, err)
		}
		cases = append(cases, found...)
	}
	return distinct(cases), nil
}

// download returns the directory of a module at the version that folder/go.mod pins.
func download(ctx context.Context, folder, module string) (string, error) {
	command := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
	command.Dir = folder
	command.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	var answer struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &answer); err != nil || jsonErr != nil {
		return "", fmt.Errorf("go mod download %s: %w: %s%s", module, err, answer.Error, stderr.String())
	}
	return answer.Dir, nil
}

// cassette is a recording of go-vcr, version 1.
type cassette struct {
	Interactions []struct {
		Request struct {
			Method  string      `yaml:"method"`
			URL     string      `yaml:"url"`
			Headers http.Header `yaml:"headers"`
			Body    string      `yaml:"body"`
		} `yaml:"request"`
	} `yaml:"interactions"`
}

func recordingsOf(ctx context.Context, dir, library string) ([]Case, error) {
	var cases []Case
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" || !isRecording(path) {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var c cassette
		if err := yaml.Unmarshal(text, &c); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for i, interaction := range c.Interactions {
			r := interaction.Request
			request, err := http.NewRequestWithContext(ctx, r.Method, r.URL, strings.NewReader(r.Body))
			if err != nil {
				return fmt.Errorf("%s: request %d: %w", path, i+1, err)
			}
			if r.Headers != nil {
				request.Header = r.Headers
			}
			// net/http adds it to what the recorder has seen.
			request.Header.Set("Accept-Encoding", "gzip")
			var raw bytes.Buffer
			if err := request.Write(&raw); err != nil {
				return fmt.Errorf("%s: request %d: %w", path, i+1, err)
			}
			cases = append(cases, Case{
				Name: fmt.Sprintf("%s %s-%d", library, strings.TrimSuffix(filepath.Base(path), ".yaml"), i+1),
				Kind: Recorded, Class: library, Body: r.Body != "", Bytes: raw.Bytes(),
			})
		}
		return nil
	})
	return cases, err
}

// isRecording tells recordings from other YAML files by the folder that each library keeps them in.
func isRecording(path string) bool {
	folder := filepath.Base(filepath.Dir(path))
	return folder == "fixtures" || folder == "testdata"
}
