-- KEYS: online, absent, extra, card, buried. ARGV: version, ttl in ms.
local version = tonumber(ARGV[1])
local known = redis.call('HGET', KEYS[4], 'version')
if known and tonumber(known) > version then return end
local earlier = redis.call('GET', KEYS[5])
local stands = earlier and tonumber(earlier) > version and earlier or ARGV[1]
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('SET', KEYS[5], stands, 'PX', ARGV[2])
