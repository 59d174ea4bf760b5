-- `LIFE DIGEST MESSAGE EPOCH OFFSET`, with '-' for what there is none of. Nothing when the key was used in another
-- life of its log, or not at all.
local function read_used(key, life)
    local used = redis.call('GET', key)
    if not used then return end
    local of, digest, message, epoch, offset = string.match(used, '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
    if of == life then return {digest = digest, message = message, epoch = epoch, offset = offset} end
end

local function write_used(key, life, digest, message, epoch, offset, ttl)
    local used = table.concat({life, digest, message, epoch, offset}, ' ')
    redis.call('SET', key, used, 'PX', ttl)
end
