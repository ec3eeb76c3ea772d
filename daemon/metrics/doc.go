// Package metrics tells Prometheus how a cluster's pairs, schedules, Migrations
// and standbys fare.
//
// Its figures are read from the objects at each scrape and from nothing else: a
// controller that was killed a moment ago tells the same as one that runs for a
// year, and what an alert says is what `kubectl get` shows. Counters that only a
// transfer knows are the node daemon's.
//
// The words: lag is the age of what could be failed over to now, that is, the
// time since the moment that the newest recovery point holds. It never writes anything.
package metrics
