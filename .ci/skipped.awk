# Reads `go test -v` and lists the skipped tests with the reason each one gave,
# then counts them. testing prints the reason on the line before the verdict.
/^ *[A-Za-z0-9_.-]+\.go:[0-9]+: / { reason = $0; sub(/^ *[^ ]+: /, "", reason) }
/^ *--- SKIP: / {
	count++
	name = $0
	sub(/^ *--- SKIP: /, "", name)
	sub(/ \([0-9.]+s\)$/, "", name)
	print "  " name (reason == "" ? "" : ": " reason)
}
/^(=== |ok  |FAIL)/ || /^ *--- / { reason = "" }
END { print (count + 0) " skipped" }
