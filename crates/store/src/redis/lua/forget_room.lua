-- KEYS: online, absent, extra, card. ARGV: version.
local known = redis.call('HGET', KEYS[4], 'version')
if known and tonumber(known) > tonumber(ARGV[1]) then return end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
