-- KEYS: load. Returns {load, milliseconds left}, or nothing.
local load = redis.call('GET', KEYS[1])
if not load then return nil end
return {load, redis.call('PTTL', KEYS[1])}
