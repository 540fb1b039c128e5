package toolchain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"

	"ephemos.dev/deploy/toolchain/internal/cache"
)

// modulePath is this repository's module.
const modulePath = "ephemos.dev/deploy"

// A workspace is a checkout and a cache.
type workspace struct {
	root  string // absolute
	cache *cache.Cache
	goEnv goEnv
	out   io.Writer
}

// goEnv are the settings of the go command that decide what it produces and where it keeps files.
type goEnv struct {
	GOVERSION, GOOS, GOARCH, GOAMD64, GOARM64, GOEXPERIMENT, GOFIPS140 string
	GOCACHE, GOMODCACHE, GONOSUMDB                                     string
}

// target returns the part of the settings that belongs in a key.
func (e goEnv) target() string {
	return fmt.Sprint(e.GOVERSION, e.GOOS, e.GOARCH, e.GOAMD64, e.GOARM64, e.GOEXPERIMENT, e.GOFIPS140)
}

func openWorkspace(ctx context.Context, opts Options) (*workspace, error) {
	w := &workspace{root: opts.Root, out: opts.Progress}
	if w.out == nil {
		w.out = os.Stderr
	}
	var err error
	if w.root == "" {
		w.root, err = findRoot()
	} else {
		w.root, err = filepath.Abs(w.root)
	}
	if err != nil {
		return nil, err
	}
	dir, err := cacheDir(opts.Cache)
	if err != nil {
		return nil, err
	}
	if w.cache, err = cache.Open(dir); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "env", "-json")
	cmd.Dir = w.root
	settings, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, &PreflightError{Problems: []string{"the go command is not on PATH"}}
	}
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	return w, json.Unmarshal(settings, &w.goEnv)
}

// cacheDir returns the absolute path of the cache that the options ask for.
func cacheDir(option string) (string, error) {
	if option == "" {
		option = os.Getenv("EPHEMOS_CACHE")
	}
	if option != "" {
		return filepath.Abs(option)
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("set EPHEMOS_CACHE to a folder for the cache: %w", err)
	}
	return filepath.Join(user, "ephemos"), nil
}

var moduleLine = regexp.MustCompile(`(?m)^module\s+` + regexp.QuoteMeta(modulePath) + `\s*$`)

// findRoot returns the folder of this repository's go.mod from the working directory upwards.
func findRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if moduleLine.Match(data) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside a checkout of %s", start, modulePath)
		}
	}
}
