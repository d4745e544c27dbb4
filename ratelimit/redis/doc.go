// Package redis is a ratelimit.Store in Redis or Valkey, and the exchange of bans and
// lists through the same server.
//
//	tiers: one script a question -> GET, arithmetic, SET with expiry
//	bans:  a hash of all of them, and a channel on which changes are told
//	lists: a hash of each, with the number of its changes, and a channel
//
// Requests of many goroutines go out as one pipeline. The server may be a single one,
// behind TLS, with an ACL user, watched by Sentinels, or a Cluster. While it is
// away, every call fails at once or by its deadline, and the connection is made anew in
// the background.
//
// An ACL user needs: ~moat:* &moat:* +evalsha +eval +script|load +get +set +del +time +hget
// +hset +hdel +hlen +hgetall +hscan +publish +subscribe +ping +hello +client and, in a Cluster, +cluster.
package redis
