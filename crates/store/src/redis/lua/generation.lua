-- KEYS: a generation key. ARGV: a random number. Returns the number that stands and the life of the server: content
-- that came back from an older dump, or from a replica that lacked the last writes, has the number but another life.
redis.call('SET', KEYS[1], ARGV[1], 'NX')
-- A user that may not ask INFO has the number alone.
local info = redis.pcall('INFO', 'server')
local life = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
return {redis.call('GET', KEYS[1]), life}
