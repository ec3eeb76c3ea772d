// Package arch holds the shape of the repository: which package may import
// which, what the top level contains, and that every package says what it is.
//
// Its words: a row is what the plan of the house says about one package and
// everything below it that has no row of its own; a family is a named set of
// packages from outside (Kubernetes, kopia, gRPC, devices); a ban forbids a
// family or a package of ours to a row, directly or through any number of
// others, and carries its reason; a breach is a place where the code departs
// from a row.
//
// The package reads sources and the import graph. It never builds or runs the
// product.
package arch
