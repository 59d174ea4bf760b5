-- KEYS: absent. ARGV: user, since when at the latest. Returns the absence that was removed, or nothing.
local absence = redis.call('HGET', KEYS[1], ARGV[1])
if not absence or tonumber(string.match(absence, '^%-?%d+')) > tonumber(ARGV[2]) then return false end
redis.call('HDEL', KEYS[1], ARGV[1])
return absence
