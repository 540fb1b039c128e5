package rds

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	day  = 24 * 60
	week = 7 * day
	// shortest is the least that RDS takes as a window, in minutes.
	shortest = 30
)

var days = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

// A window is minutes of a period: of a day or of a week. It may go over the period's end.
type window struct{ start, length int }

func (w window) holds(minute, period int) bool {
	return (minute-w.start+period)%period < w.length
}

// validateWindows checks both windows and refuses two that overlap, as RDS does.
func validateWindows(backup, maintenance string) error {
	b, errB := parseWindow("backupWindow", backup, day, "hh:mm-hh:mm, such as 01:00-02:00", minuteOfDay)
	m, errM := parseWindow("maintenanceWindow", maintenance, week, "ddd:hh:mm-ddd:hh:mm, such as sun:03:00-sun:04:00", minuteOfWeek)
	if err := errors.Join(errB, errM); err != nil {
		return err
	}
	for minute := range week {
		if m.holds(minute, week) && b.holds(minute%day, day) {
			return fmt.Errorf("maintenanceWindow: %q is not allowed: it overlaps the backupWindow %q", maintenance, backup)
		}
	}
	return nil
}

func parseWindow(field, text string, period int, form string, minute func(string) (int, error)) (window, error) {
	from, to, _ := strings.Cut(text, "-")
	start, errStart := minute(from)
	end, errEnd := minute(to)
	length := (end - start + period) % period
	if errStart != nil || errEnd != nil || length < shortest || length > day {
		return window{}, fmt.Errorf("%s: %q is not allowed: it must be %s, in UTC, of %d minutes to a day", field, text, form, shortest)
	}
	return window{start: start, length: length}, nil
}

func minuteOfDay(text string) (int, error) {
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, fmt.Errorf("%q is no time of day", text)
	}
	return t.Hour()*60 + t.Minute(), nil
}

func minuteOfWeek(text string) (int, error) {
	name, clock, _ := strings.Cut(text, ":")
	i := slices.Index(days, name)
	minute, err := minuteOfDay(clock)
	if i < 0 || err != nil {
		return 0, fmt.Errorf("%q is no time of the week", text)
	}
	return i*day + minute, nil
}
