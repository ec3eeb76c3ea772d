// Package chart tests the Helm chart from outside: it renders it with Helm, as
// users do, and holds what comes out against Kubernetes' own types, against the
// flags of godwitd, against the rights that the code says it needs, and against
// a real API server. It never installs anything.
package chart
