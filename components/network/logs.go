package network

import (
	"fmt"
	"slices"
)

// retentions are the days for which CloudWatch Logs can keep a log group. Zero, which is for ever, is not among them.
var retentions = []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

// CheckRetention reports a number of days for which CloudWatch Logs cannot keep a log group. field is its name in the error.
func CheckRetention(field string, days int) error {
	if slices.Contains(retentions, days) {
		return nil
	}
	return fmt.Errorf("%s: \"%d\" is not allowed: it must be one of %v", field, days, retentions)
}
