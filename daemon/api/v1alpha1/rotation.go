package v1alpha1

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// AnnotationRotate on a ClusterPair asks for what is to be replaced: one or more of
// the words below, with commas in between. Its controller takes off each word that
// is done.
const AnnotationRotate = "godwit.io/rotate"

// What can be replaced of a pair.
const (
	// RotateCertificate asks for a new key and certificate. A moment in time, or no
	// word at all, asks for that too.
	RotateCertificate = "certificate"
	// RotatePassword asks for a new password of the pair's repository.
	RotatePassword = "password"
	// RotateSealingKey asks for a new key that seals recovery points.
	RotateSealingKey = "sealing-key"
)

// ConditionRotating on a ClusterPair is there as long as something keeps a password or
// a sealing key from being replaced; its message says what.
const ConditionRotating = "Rotating"

// Rotations reads the value of AnnotationRotate.
func Rotations(value string) ([]string, error) {
	var words []string
	for word := range strings.SplitSeq(value, ",") {
		word = strings.TrimSpace(word)
		if _, err := time.Parse(time.RFC3339, word); err == nil {
			word = RotateCertificate
		}
		switch word {
		case "":
			continue
		case RotateCertificate, RotatePassword, RotateSealingKey:
			if !slices.Contains(words, word) {
				words = append(words, word)
			}
		default:
			return nil, fmt.Errorf("annotation %s asks to replace %q: it takes %s, %s and %s, with commas in between",
				AnnotationRotate, word, RotateCertificate, RotatePassword, RotateSealingKey)
		}
	}
	return words, nil
}
