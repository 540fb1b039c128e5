//go:build race

package waf

const raceDetector = true
