-- KEYS: online, absent, extra.
local online, absent, extra = KEYS[1], KEYS[2], KEYS[3]

-- Where a session id (16 bytes) begins among those of its user.
local function find(packed, session)
    for at = 1, #packed, 16 do
        if string.sub(packed, at, at + 15) == session then return at end
    end
end

local function enter(user, session)
    local packed = redis.call('HGET', online, user)
    if not packed then
        redis.call('HSET', online, user, session)
    elseif not find(packed, session) then
        redis.call('HSET', online, user, packed .. session)
        redis.call('INCR', extra)
    end
    redis.call('HDEL', absent, user)
end

local function fewer_extra(count)
    if count > 0 and redis.call('DECRBY', extra, count) <= 0 then
        redis.call('DEL', extra)
    end
end
