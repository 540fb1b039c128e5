// Package check holds the checks of arguments that several AWS components make. Each returns an error that names the field, its
// value and what is allowed, or nil.
package check

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

var (
	account     = regexp.MustCompile(`^[0-9]{12}$`)
	region      = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
	trustDomain = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
)

// LogRetentions are the numbers of days for which CloudWatch keeps a log group. Zero, which is for ever, is left out on purpose.
var LogRetentions = []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

func refuse(field string, value any, allowed string) error {
	return fmt.Errorf(`%s: "%v" is not allowed: it must be %s`, field, value, allowed)
}

// Account checks the number of an AWS account.
func Account(field, value string) error {
	if !account.MatchString(value) {
		return refuse(field, value, "an account number, 12 digits")
	}
	return nil
}

// Region checks the name of an AWS region.
func Region(field, value string) error {
	if !region.MatchString(value) {
		return refuse(field, value, "a region, such as eu-central-1")
	}
	return nil
}

// Regions checks two regions, of which the second holds what must survive the first.
func Regions(field, value, backupField, backup string) error {
	if value == backup && value != "" {
		return refuse(backupField, backup, "another region than "+field)
	}
	return errors.Join(Region(field, value), Region(backupField, backup))
}

// TrustDomain checks the name of a trust domain.
func TrustDomain(field, value string) error {
	if !trustDomain.MatchString(value) || len(value) > 200 {
		return refuse(field, value, "a trust domain: a DNS name in lower case")
	}
	return nil
}

// Between checks a number.
func Between(field string, value, least, most int) error {
	if value < least || value > most {
		return refuse(field, value, fmt.Sprintf("between %d and %d", least, most))
	}
	return nil
}

// OneOf checks a value out of a few.
func OneOf[T ~string](field string, value T, allowed ...T) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	return refuse(field, value, "one of "+strings.Join(names, ", "))
}

// LogRetention checks for how many days a log group is kept.
func LogRetention(field string, value int) error {
	if !slices.Contains(LogRetentions, value) {
		return refuse(field, value, fmt.Sprintf("one of %v days", LogRetentions))
	}
	return nil
}

// Set checks that a value is there, and that a list which is known is not empty.
func Set(field string, value any) error {
	v := reflect.ValueOf(value)
	if value == nil || v.Kind() == reflect.Pointer && v.IsNil() || v.Kind() == reflect.Slice && v.Len() == 0 {
		return refuse(field, "", "set")
	}
	return nil
}

// Key checks the ARN of a key that has to be in a region. One that is not known yet is not looked at.
func Key(field string, value pulumi.StringInput, region string) error {
	arn, plain := value.(pulumi.String)
	if !plain {
		return Set(field, value)
	}
	if !strings.HasPrefix(string(arn), "arn:aws:kms:"+region+":") {
		return refuse(field, string(arn), "the ARN of a key in "+region)
	}
	return nil
}
