-- KEYS: log, head, used. ARGV: message, epoch for a log that begins, messages, bytes and age that are kept, how long the
-- position is kept, '1' under an idempotency key, digest, its ttl, payload (absent: only the key is used).
-- Returns {'new', epoch, offset}, {'new'}, {'repeat', message, epoch, offset}, {'repeat', message} or {'taken', message}.
--
-- head: epoch, life (the epoch it began with), offset (of the newest), first and oldest (offset and time of the oldest
-- that is kept), bytes (that are kept). All reads come before the first write, and that is one a full server refuses:
-- so it refuses all or nothing.
local log, head, used = KEYS[1], KEYS[2], KEYS[3]
local message, payload = ARGV[1], ARGV[10]
local text = function(number) return string.format('%.0f', number) end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local known = redis.call('HMGET', head, 'epoch', 'life', 'offset', 'first', 'oldest', 'bytes')
local begins = not known[1]
local epoch, life = known[1] or ARGV[2], known[2] or ARGV[2]
local offset, first = tonumber(known[3] or 0), tonumber(known[4] or 1)
local oldest, bytes = tonumber(known[5] or 0), tonumber(known[6] or 0)

if ARGV[7] == '1' then
    local by = read_used(used, life)
    if by then
        if by.digest ~= ARGV[8] then return {'taken', by.message} end
        if by.epoch ~= epoch then return {'repeat', by.message} end
        return {'repeat', by.message, by.epoch, by.offset}
    end
end

local kept_ms = tonumber(ARGV[5]) + tonumber(ARGV[6])
local function write_head()
    redis.call('HSET', head, 'epoch', epoch, 'life', life, 'offset', text(offset), 'first', text(first),
        'oldest', text(oldest), 'bytes', text(bytes))
end

if not payload then
    if ARGV[7] ~= '1' then return {'new'} end
    if begins then write_head() end
    write_used(used, life, ARGV[8], message, '-', '-', ARGV[9])
    redis.call('PEXPIRE', head, text(kept_ms))
    return {'new'}
end

offset = offset + 1
bytes = bytes + #payload
local count = 1
if not begins then count = count + redis.call('XLEN', log) end
if count == 1 then first, oldest, bytes = offset, now, #payload end

-- What is over goes from the front, a bounded part of it: an entry is read once for it.
local before = first
local function is_over()
    return count > 1 and (count > tonumber(ARGV[3]) or bytes > tonumber(ARGV[4]) or now - oldest > tonumber(ARGV[5]))
end
while is_over() and first - before < 64 do
    local entries = redis.call('XRANGE', log, text(first) .. '-0', '+', 'COUNT', 4)
    -- The last one is read to know where the rest begins, unless none follows.
    for at = 1, math.max(#entries - 1, 1) do
        if not is_over() then break end
        local entry, follower = entries[at], entries[at + 1]
        count = entry and count - 1 or 1
        bytes = entry and bytes - #entry[2][6] or #payload
        if follower then
            first, oldest = tonumber(string.match(follower[1], '^%d+')), tonumber(follower[2][4])
        else
            first, oldest = offset, now
        end
    end
end

write_head()
if begins then redis.call('DEL', log) end
redis.call('XADD', log, text(offset) .. '-0', 'm', message, 't', text(now), 'p', payload)
if first > before then redis.call('XTRIM', log, 'MINID', text(first) .. '-0') end
redis.call('PEXPIRE', log, ARGV[5])
redis.call('PEXPIRE', head, text(kept_ms))
if ARGV[7] == '1' then
    write_used(used, life, ARGV[8], message, epoch, text(offset), ARGV[9])
end
return {'new', epoch, text(offset)}
