-- KEYS: card, buried. Returns {buried version}, {version, members, card} or {}.
local buried = redis.call('GET', KEYS[2])
if buried then return {buried} end
local known = redis.call('HMGET', KEYS[1], 'version', 'members', 'card')
if not known[1] then return {} end
return known
