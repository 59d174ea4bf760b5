-- KEYS: log, head. ARGV: part ('position', 'after' or 'before'), offset, up to, messages and bytes at most, age, epoch
-- for a log that begins, how long its position is kept.
-- Returns {} when there is no log, else {epoch, offset, first, '1' when cut, offset, message, payload, ...}: nearest
-- first, so for 'before' the newest.
local log, head, part = KEYS[1], KEYS[2], ARGV[1]
local text = function(number) return string.format('%.0f', number) end
local known = redis.call('HMGET', head, 'epoch', 'offset', 'first', 'oldest')
if not known[1] then
    if part ~= 'position' then return {} end
    redis.call('HSET', head, 'epoch', ARGV[7], 'life', ARGV[7], 'offset', 0, 'first', 1, 'oldest', 0, 'bytes', 0)
    redis.call('PEXPIRE', head, ARGV[8])
    return {ARGV[7], '0', '1', '0'}
end
-- A server that takes no writes answers questions all the same.
if part == 'position' and redis.call('PTTL', head) < tonumber(ARGV[8]) then
    redis.pcall('PEXPIRE', head, ARGV[8])
end

local time = redis.call('TIME')
local since = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(ARGV[6])
local offset, first = tonumber(known[2]), tonumber(known[3])
local function offset_of(entry) return tonumber(string.match(entry[1], '^%d+')) end

if redis.call('XLEN', log) == 0 then
    first = offset + 1
elseif tonumber(known[4]) < since then
    local is_found = false
    while not is_found and first <= offset do
        local entries = redis.call('XRANGE', log, text(first) .. '-0', '+', 'COUNT', 16)
        if #entries == 0 then first = offset + 1 end
        for _, entry in ipairs(entries) do
            first, is_found = offset_of(entry), tonumber(entry[2][4]) >= since
            if is_found then break end
            first = first + 1
        end
    end
end

local answer = {known[1], known[2], text(first), '0'}
local command, from, to = 'XRANGE', math.max(first, tonumber(ARGV[2]) + 1), math.min(offset, tonumber(ARGV[3]))
if part == 'position' then return answer end
if part == 'before' then
    command, from, to = 'XREVRANGE', math.min(offset, tonumber(ARGV[2]) - 1), first
end
local limit, room, count = tonumber(ARGV[4]), tonumber(ARGV[5]), 0
local step = part == 'before' and -1 or 1
while (to - from) * step >= 0 do
    local entries = redis.call(command, log, text(from) .. '-0', text(to) .. '-0', 'COUNT', 16)
    if #entries == 0 then break end
    for _, entry in ipairs(entries) do
        local payload = entry[2][6]
        room = room - #payload
        if count >= limit or (room < 0 and count > 0) then
            answer[4] = '1'
            return answer
        end
        count = count + 1
        from = offset_of(entry) + step
        answer[#answer + 1] = text(offset_of(entry))
        answer[#answer + 1] = entry[2][2]
        answer[#answer + 1] = payload
    end
end
return answer
