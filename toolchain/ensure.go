package toolchain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ephemos.dev/deploy/toolchain/internal/cache"
	"ephemos.dev/deploy/toolchain/internal/progress"
)

// A StepError is the failure of a step.
type StepError struct {
	Step string   // title in the display
	Log  string   // path of its full output
	Tail []string // the last lines of it
	Err  error
}

func (e *StepError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s failed: %v\n", e.Step, e.Err)
	for _, line := range e.Tail {
		fmt.Fprintf(&b, "  | %s\n", line)
	}
	fmt.Fprintf(&b, "log: %s", e.Log)
	return b.String()
}

func (e *StepError) Unwrap() error { return e.Err }

const (
	tailLines = 15 // of a failed step's log in its error
	keptLogs  = 10 // runs
)

func ensure(ctx context.Context, opts Options, groups []Group) (*Result, error) {
	w, err := openWorkspace(ctx, opts)
	if err != nil {
		return nil, err
	}
	items := w.plan()
	chosen, err := choose(items, groups)
	if err != nil {
		return nil, err
	}
	var missing []*item
	var problems []error
	for _, i := range chosen {
		if i.err != nil {
			problems = append(problems, fmt.Errorf("%s cannot be built: %w", i.title(), i.err))
		} else if !w.cache.Has(i.key) {
			missing = append(missing, i)
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if len(missing) > 0 {
		if err := w.preflight(ctx, missing); err != nil {
			return nil, err
		}
		if err := w.makeAll(ctx, missing); err != nil {
			return nil, err
		}
	}
	result, err := w.result(chosen)
	if err != nil {
		return nil, err
	}
	return result, w.writeImagesFile(items)
}

func lookup(ctx context.Context, opts Options) (*Result, error) {
	w, err := openWorkspace(ctx, opts)
	if err != nil {
		return nil, err
	}
	return w.result(w.present(w.plan()))
}

// present returns the items that are in the cache.
func (w *workspace) present(items []*item) []*item {
	var found []*item
	for _, i := range items {
		if i.err == nil && w.cache.Has(i.key) {
			found = append(found, i)
		}
	}
	return found
}

// makeAll makes the items one after another and shows the progress.
func (w *workspace) makeAll(ctx context.Context, items []*item) error {
	logs, err := w.newLogs()
	if err != nil {
		return err
	}
	durations := w.cache.Durations()
	titles := make([]string, len(items))
	var total time.Duration
	for n, i := range items {
		titles[n] = i.title()
		if took, ok := durations[i.key.Kind+"/"+i.key.Name]; ok {
			i.estimate = took
		}
		total += i.estimate
	}
	display := progress.New(w.out, titles)
	display.Line("%d steps, estimate %s, logs in %s", len(items), progress.Short(total), logs)
	for n, i := range items {
		name := fmt.Sprintf("%02d-%s-%s.log", n+1, i.key.Kind, i.key.Name)
		if err := w.makeOne(ctx, i, display, filepath.Join(logs, name)); err != nil {
			return err
		}
	}
	return nil
}

func (w *workspace) makeOne(ctx context.Context, i *item, display *progress.Display, logName string) error {
	log, err := os.OpenFile(logName, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	step := display.Start(i.title(), i.estimate)
	err = w.cache.Build(ctx, i.key, func() { step.Note("waiting for another run") },
		func(ctx context.Context, dir string) ([]string, error) {
			step.Note("building")
			return i.make(ctx, dir, func(cmd *exec.Cmd) error { return run(cmd, log) })
		})
	switch {
	case ctx.Err() != nil:
		step.End("stopped")
		return ctx.Err()
	case err != nil:
		step.End("failed")
		return &StepError{Step: i.title(), Log: logName, Tail: lastLines(log, tailLines), Err: err}
	}
	step.End("done")
	return nil
}

// newLogs returns a new folder for the logs of this run and removes those of old runs.
func (w *workspace) newLogs() (string, error) {
	parent := filepath.Join(w.cache.Dir(), "logs")
	dir := filepath.Join(parent, fmt.Sprintf("%s-%d", time.Now().UTC().Format("20060102-150405"), os.Getpid()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	runs, err := os.ReadDir(parent)
	if err != nil {
		return "", err
	}
	for len(runs) > keptLogs { // sorted by name, hence by time
		if err := os.RemoveAll(filepath.Join(parent, runs[0].Name())); err != nil {
			return "", err
		}
		runs = runs[1:]
	}
	return dir, nil
}

// result describes items that are in the cache.
func (w *workspace) result(items []*item) (*Result, error) {
	r := &Result{cache: w.cache.Dir(), programs: map[string]string{}, images: map[string]Image{}, rootfs: map[string]string{}}
	for _, i := range items {
		dir := w.cache.Path(i.key)
		switch i.key.Kind {
		case kindPrograms:
			for _, b := range builds {
				if b.name != i.key.Name {
					continue
				}
				for _, p := range b.programs {
					r.programs[p.name] = filepath.Join(dir, p.name)
				}
			}
		case kindImages:
			img, err := readImage(dir)
			if err != nil {
				return nil, err
			}
			r.images[i.key.Name] = img
		case kindRootFS:
			r.rootfs[i.key.Name] = filepath.Join(dir, treeDir)
		}
	}
	return r, nil
}

func imagesFile(cacheDir string) string { return filepath.Join(cacheDir, "images.json") }

// writeImagesFile writes the references of all images of this checkout that are in the cache, unless the file has them already.
func (w *workspace) writeImagesFile(items []*item) error {
	all, err := w.result(w.present(items))
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(all.ImageRefs(), "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	name := imagesFile(w.cache.Dir())
	old, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if string(old) == string(data) {
		return nil
	}
	return cache.WriteFile(name, data)
}

// find returns an entry of a Result.
func find[T any](parts map[string]T, kind, name string) (T, error) {
	part, ok := parts[name]
	if !ok {
		known := slices.Sorted(maps.Keys(parts))
		return part, fmt.Errorf("no %s %q here: there are %s", kind, name, strings.Join(known, ", "))
	}
	return part, nil
}
