-- KEYS: online, extra. Returns {sessions, users}.
local users = redis.call('HLEN', KEYS[1])
return {users + tonumber(redis.call('GET', KEYS[2]) or 0), users}
