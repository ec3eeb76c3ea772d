# Reads `go test -v` and lists the skipped tests by package, with the reason that
# each one gave, then counts them.
/^=== (RUN|CONT|NAME) / { current = $3; next }
/^ *[A-Za-z0-9_.-]+\.go:[0-9]+: / { said[current] = $0; sub(/^ *[^ ]+: /, "", said[current]) }
/^ *--- SKIP: / {
	name = $0
	sub(/^ *--- SKIP: /, "", name)
	sub(/ \([0-9.]+s\)$/, "", name)
	skipped[++waiting] = name (said[name] == "" ? "" : ": " said[name])
}
/^(ok  |FAIL)\t/ {
	split($0, field, /[ \t]+/)
	for (i = 1; i <= waiting; i++) { print "  " field[2] " " skipped[i]; count++ }
	waiting = 0
	split("", said)
}
END {
	for (i = 1; i <= waiting; i++) { print "  " skipped[i]; count++ }
	print (count + 0) " skipped"
}
