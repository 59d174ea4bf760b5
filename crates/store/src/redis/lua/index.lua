-- KEYS: versions, slice. ARGV: session, indexed session, '1' when this life may begin. Returns 0 when nothing is known
-- of this life: the caller enters it into the list of nodes first.
if ARGV[3] ~= '1' and redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSETNX', KEYS[1], '0', '0')
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
