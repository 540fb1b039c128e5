package stacks

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// ConfigError says why one configuration value is refused.
type ConfigError struct {
	// Key is the configuration key without its namespace.
	Key string
	// Value is the refused value as it was given; empty when it is not set or
	// secret.
	Value string
	// Secret says that there is a value, which is withheld because the stack's
	// configuration holds it encrypted.
	Secret bool
	// Allowed is what the key takes.
	Allowed string
}

func (e *ConfigError) Error() string {
	switch {
	case e.Secret:
		return fmt.Sprintf("%s:%s: %s is refused: it takes %s", Namespace, e.Key, withheld, e.Allowed)
	case e.Value == "":
		return fmt.Sprintf("%s:%s is not set: it takes %s", Namespace, e.Key, e.Allowed)
	}
	return fmt.Sprintf("%s:%s: %q is refused: it takes %s", Namespace, e.Key, e.Value, e.Allowed)
}

// withheld stands for a secret value in messages.
const withheld = "[secret]"

// unknownKeyError says that a key of the namespace does not exist. It does not
// hold the value, which may be anybody's secret: all are decrypted for the
// program.
type unknownKeyError struct{ key string }

func (e *unknownKeyError) Error() string {
	return fmt.Sprintf("%s:%s is refused: there is no such key; the keys are %s",
		Namespace, strings.Trim(strconv.Quote(e.key), `"`), strings.Join(keyNames(), ", "))
}

// ConfigErrors is every error of one configuration.
type ConfigErrors []error

// Error has one line for each error.
func (e ConfigErrors) Error() string { return errors.Join(e...).Error() }

// Unwrap makes errors.As find each error.
func (e ConfigErrors) Unwrap() []error { return e }

func refuse(key, value, allowed string) error {
	return &ConfigError{Key: key, Value: value, Allowed: allowed}
}

// reason drops the path from a file system error, for messages that name the
// file already.
func reason(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}

// oneLine joins the lines of a joined error.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
