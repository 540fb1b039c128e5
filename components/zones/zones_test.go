package zones

import (
	"testing"
)

func TestStandardIsValid(t *testing.T) {
	if err := Standard(Options{}).Validate(); err != nil {
		t.Fatal(err)
	}
}
