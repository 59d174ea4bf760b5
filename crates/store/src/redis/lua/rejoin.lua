-- KEYS[4]: buried. ARGV: user, session. Returns 1 when the user holds a seat.
local user = ARGV[1]
if redis.call('HEXISTS', absent, user) == 0 and redis.call('HEXISTS', online, user) == 0 then return 0 end
if redis.call('EXISTS', KEYS[4]) == 1 then return 0 end
enter(user, ARGV[2])
return 1
