package cli

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// stripped stands where a secret was.
const stripped = "[stripped]"

// shortestSecret is the least length at which a value is looked for in texts:
// shorter ones are words of any language.
const shortestSecret = 6

// longestSecret keeps whole documents that lie in Secrets out of the search.
const longestSecret = 16 << 10

// secrets are the values that must not leave the cluster.
type secrets struct{ values map[string]bool }

func newSecrets() *secrets { return &secrets{values: map[string]bool{}} }

// learn takes a value of a Secret, with each of its lines where it has several:
// texts may quote a part of it.
func (s *secrets) learn(key, value string) {
	if open(key) || len(value) > longestSecret {
		return
	}
	for _, v := range append(strings.Split(value, "\n"), value) {
		if v = strings.TrimSpace(v); len(v) >= shortestSecret && !strings.HasPrefix(v, "-----") {
			s.values[v] = true
		}
	}
}

// open is true for what Secrets hold beside secrets.
func open(key string) bool {
	return slices.Contains([]string{
		"region", "endpoint", "path", "prefix", "type", "bucket", "name", "namespace", "disablessl", "ca.crt", "tls.crt", "certificate", "username",
	}, strings.ToLower(key))
}

// secretField is true for fields of objects whose value is a secret, or may have
// one in it: commands are given passwords.
func secretField(key string) bool {
	key = strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(key))
	for _, part := range []string{"password", "secretaccesskey", "secretkey", "accesskeyid", "encryptionkey", "encryptionv2key", "accountkey", "clientkeydata", "privatekey", "token"} {
		if strings.HasSuffix(key, part) {
			return true
		}
	}
	return false
}

// commandField is true for what a shell is given.
func commandField(kind, key string) bool {
	switch kind {
	case "Rule":
		return key == "value"
	case "Migration", "MigrationSchedule":
		return key == "command" || key == "args"
	}
	return false
}

// strip takes out of an object what is a secret by its place, and remembers it,
// so that it is found elsewhere too.
func (s *secrets) strip(o *unstructured.Unstructured) {
	unstructured.RemoveNestedField(o.Object, "metadata", "managedFields")
	annotations := o.GetAnnotations()
	delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
	o.SetAnnotations(annotations)
	s.walk(o.GetKind(), o.Object)
}

func (s *secrets) walk(kind string, fields map[string]any) {
	for key, value := range fields {
		if secretField(key) || commandField(kind, key) {
			fields[key] = s.take(value, secretField(key))
			continue
		}
		s.descend(kind, value)
	}
}

func (s *secrets) descend(kind string, value any) {
	switch v := value.(type) {
	case map[string]any:
		s.walk(kind, v)
	case []any:
		for _, one := range v {
			s.descend(kind, one)
		}
	}
}

// take gives what stands for a value, and remembers the value where it is a
// secret as a whole.
func (s *secrets) take(value any, whole bool) any {
	switch v := value.(type) {
	case string:
		if whole {
			s.learn("", v)
		}
		return stripped
	case []any:
		return []any{stripped}
	case map[string]any:
		return map[string]any{}
	}
	return value
}

// cleaner replaces every secret in a text, as it is and as base64 and JSON write it.
func (s *secrets) cleaner() func([]byte) []byte {
	var pairs []string
	var values []string
	for v := range s.values {
		values = append(values, v)
	}
	// A secret that begins with another one goes first.
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	for _, v := range values {
		raw := []byte(v)
		pairs = append(pairs, v, stripped, hex.EncodeToString(raw), stripped)
		for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
			pairs = append(pairs, e.EncodeToString(raw), stripped)
		}
		if quoted, err := json.Marshal(v); err == nil && string(quoted) != `"`+v+`"` {
			pairs = append(pairs, string(quoted[1:len(quoted)-1]), stripped)
		}
	}
	replacer := strings.NewReplacer(pairs...)
	return func(text []byte) []byte { return []byte(replacer.Replace(string(text))) }
}
