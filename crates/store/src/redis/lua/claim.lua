-- KEYS: sessions. ARGV: session, stamp, client, entry, '1' under policy single.
-- Returns {'lost', holder} or {'held', session, entry, ...} with those displaced.
local session, stamp, client = ARGV[1], tonumber(ARGV[2]), ARGV[3]

-- Not `>`: it would compare by the server's locale.
local function is_greater(a, b)
    for at = 1, math.min(#a, #b) do
        local x, y = string.byte(a, at), string.byte(b, at)
        if x ~= y then return x > y end
    end
    return #a > #b
end

local held = {'held'}
local holder, best = session, stamp
local all = redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
    local other, other_stamp, other_client = all[at], string.match(all[at + 1], '^(%-?%d+) (%S+)')
    if other ~= session and (ARGV[5] == '1' or other_client == client) then
        other_stamp = tonumber(other_stamp)
        held[#held + 1] = other
        held[#held + 1] = all[at + 1]
        if other_stamp > best or (other_stamp == best and is_greater(other, holder)) then
            holder, best = other, other_stamp
        end
    end
end
if holder ~= session then
    redis.call('HDEL', KEYS[1], session)
    return {'lost', holder}
end
for at = 2, #held, 2 do
    redis.call('HDEL', KEYS[1], held[at])
end
redis.call('HSET', KEYS[1], session, ARGV[4])
return held
