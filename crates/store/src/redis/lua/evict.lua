-- ARGV: user. Returns its session ids, 16 bytes each.
local packed = redis.call('HGET', online, ARGV[1]) or ''
redis.call('HDEL', online, ARGV[1])
redis.call('HDEL', absent, ARGV[1])
fewer_extra(#packed / 16 - 1)
return packed
