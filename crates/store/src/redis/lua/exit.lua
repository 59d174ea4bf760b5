-- ARGV: user, session, and the absence that the last session leaves, or ''. Returns how many sessions are left.
local user, absence = ARGV[1], ARGV[3]
local packed = redis.call('HGET', online, user)
if not packed then return 0 end
local at = find(packed, ARGV[2])
if not at then return #packed / 16 end
if #packed > 16 then
    redis.call('HSET', online, user, string.sub(packed, 1, at - 1) .. string.sub(packed, at + 16))
    fewer_extra(1)
    return #packed / 16 - 1
end
redis.call('HDEL', online, user)
if absence ~= '' then redis.call('HSET', absent, user, absence) end
return 0
