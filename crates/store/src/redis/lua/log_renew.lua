-- KEYS: log, head. ARGV: the epoch that is over, the next one, how long the position is kept. Returns {epoch, offset},
-- or {} when there is no log.
local known = redis.call('HMGET', KEYS[2], 'epoch', 'offset')
if not known[1] then return {} end
if known[1] ~= ARGV[1] then return known end
redis.call('HSET', KEYS[2], 'epoch', ARGV[2], 'offset', 0, 'first', 1, 'oldest', 0, 'bytes', 0)
redis.call('DEL', KEYS[1])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return {ARGV[2], '0'}
