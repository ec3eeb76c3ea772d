// Package rule runs the commands of a Rule in an application's pods, around the
// moment of its snapshots.
//
// Its words: a Task is one command in one pod; tasks of one step run at once. A
// task in the background keeps something still (a database behind a read lock)
// where its command says ${WAIT_CMD}, until Release.
//
// No command hangs on a connection: a task is started in its container, keeps
// its state in files there, and is polled. So a controller that is killed finds
// its tasks again, and a wait that nobody releases ends by itself at the task's
// limit, and says so. Rules and their meaning are stork's; what differs is that a
// background command which ends early, or loses its hold, fails the run instead
// of passing unseen.
//
// It never decides when to run anything, and keeps nothing in memory.
package rule
