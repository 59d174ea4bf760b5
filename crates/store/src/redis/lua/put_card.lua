-- KEYS: card, buried. ARGV: version, members, card, '1' when active.
local version = tonumber(ARGV[1])
local buried = redis.call('GET', KEYS[2])
if buried then
    if ARGV[4] ~= '1' or version <= tonumber(buried) then return end
    redis.call('DEL', KEYS[2])
end
local known = redis.call('HGET', KEYS[1], 'version')
if known and tonumber(known) > version then
    redis.call('HSET', KEYS[1], 'members', ARGV[2])
else
    redis.call('HSET', KEYS[1], 'version', ARGV[1], 'members', ARGV[2], 'card', ARGV[3])
end
