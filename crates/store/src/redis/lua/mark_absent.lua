-- KEYS: online, absent. ARGV: user, absence. Returns 1 when it was marked.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 0 end
return redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2])
