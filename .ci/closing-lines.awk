# Reads `go test -v`, whose output comes package by package, and prints each
# package's closing line as go test wrote it. What a failing package said comes
# before its closing line; what no closing line follows is printed at the end.
/^(ok  |\?   |---? )\t/ || /^\t[^ \t]+\tcoverage: / { print; fflush(); held = ""; next }
/^FAIL\t/ { printf "%s", held; print; fflush(); held = ""; next }
/^=== (RUN|PAUSE|CONT|NAME) / || /^ *--- PASS: / || /^PASS$/ { next }
{ held = held $0 "\n" }
END { printf "%s", held }
