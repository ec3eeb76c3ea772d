// Package scenario owns what the demo and the end-to-end tests share: two
// clusters with Godwit in them, an application with data in the first, and the
// comparison of what came out in the second.
//
// Its words: the ground is the two clusters and the object store that a scenario
// plays on, made by the sandbox or brought by the user; the application is a
// database under inserts, a raw volume, a shared tree of files and a front end;
// a finding is what one comparison compared, as a value to print or to assert.
// A ground without containers has the sandbox's control planes: Godwit's daemons
// run beside them as processes, with the rights of the chart's service accounts,
// and the application is an archive, whose bytes the scenario writes into the
// volumes in the place of the containers.
//
// It works from outside, by the API servers, kubectl, godwitctl, helm and the sandbox's program,
// as a user does. It never reads Godwit's memory or calls its packages, but for
// the types of its custom resources. A comparison never repairs or retries: a
// difference is an error that names what differs.
package scenario
